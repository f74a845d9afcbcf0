"""Refresh tokens: each is spent once and gives the next; whoever spends one twice ends its whole family.

Rules: a token is `mgr_` and 256 random bits, of which the digest is stored; a family begins with a sign-in and
ends a fixed time after it, however often it is refreshed; spent tokens are kept until then, so that a stolen one
that is used after its owner's (or before it) is noticed; two at once count as such a theft. Who spends a token
locks its family, and whoever ends a family waits for that: of a spending and an ending at once, what the spending
gave is ended too. A sign-in begins only if its account is still of the generation whose secret was proved.

Source: RFC 6749 sections 1.5 and 6; RFC 9700 section 4.14.2 (rotation, reuse).
"""

import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from maas_gateway.accounts import store as accounts
from maas_gateway.accounts.user import User
from maas_gateway.auth import store
from maas_gateway.auth.client_secrets import digest_of
from maas_gateway.auth.refresh_token import RefreshToken
from maas_gateway.clock import Clock
from maas_gateway.database.engine import Database
from maas_gateway.database.sessions import TenantSession
from maas_gateway.errors import TokenReused, Unauthenticated
from maas_gateway.permissions import Permission

PREFIX: Final = "mgr_"
_WRONG: Final = "the refresh token is unknown, spent or expired"
_REPLACED: Final = "the password was replaced while you signed in; sign in with the new one"


@dataclass(frozen=True, slots=True)
class Spent:
    """A refresh token that was spent.

    Attributes:
        token: what it was.
        following: the text of the next.
        generation: the account's when the sign-in began.
    """

    token: RefreshToken
    following: str
    generation: int


class RefreshTokens:
    """Every tenant's refresh tokens.

    Args:
        database: the main database.
        clock: what time it is.
        life_s: how long a family lives, in seconds.
        access_life_s: how long an access token that comes from one can live, in seconds.
        announce: tells this process that a topic has changed.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        life_s: int,
        access_life_s: int,
        announce: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._life = timedelta(seconds=life_s)
        self._announce = announce
        self._access_life = timedelta(seconds=access_life_s)

    async def begin(self, user: User, scope: frozenset[Permission]) -> tuple[str, uuid.UUID]:
        """Begin a family; return its first token's text and its identifier.

        Args:
            user: as it was when its password was checked.
            scope: the most that the family's access tokens may be for.

        Raises:
            Unauthenticated: the password has been replaced since, or the user disabled or removed.
        """
        text = _new_text()
        ends_at = self._clock.now() + self._life
        first = RefreshToken(digest_of(text), user.tenant, user.subject, uuid.uuid4(), scope, ends_at)
        async with self._database.write(user.tenant) as session:
            known = await accounts.user(session, user.subject, for_update=True)
            if known is None or known.generation != user.generation:
                raise Unauthenticated(_REPLACED)
            await store.add_family(session, first, generation=user.generation)
        return text, first.family

    async def spend(self, text: str) -> Spent:
        """Spend a token.

        Raises:
            Unauthenticated: there is no such token, it has expired, or its sign-in has ended.
            TokenReused: it was spent before; its family is ended now, and the access tokens that came from it.
        """
        if not text.startswith(PREFIX):
            raise Unauthenticated(_WRONG)
        found = await store.refresh_token(self._database, digest_of(text))
        now = self._clock.now()
        if found is None or found.expires_at <= now:
            raise Unauthenticated(_WRONG)
        next_text = _new_text()
        async with self._database.write(found.tenant) as session:
            generation = await store.lock_family(session, found.family)
            if generation is None:
                raise Unauthenticated(_WRONG)
            is_first = await store.spend_refresh_token(session, found, now)
            if is_first:
                await store.add_refresh_token(session, replace(found, digest=digest_of(next_text), is_spent=False))
            else:
                await self.end(session, found.family)
        if not is_first:
            self._announce(accounts.TOPIC)
            raise TokenReused(_WRONG, tenant=found.tenant, subject=found.subject)
        return Spent(found, next_text, generation)

    async def end(self, session: TenantSession, family: uuid.UUID) -> None:
        """End a sign-in: its refresh tokens, and the access tokens that came from it."""
        await store.end_family(session, family, until=self._clock.now() + self._access_life)

    async def end_all(self, session: TenantSession, subject: uuid.UUID) -> None:
        """End every sign-in of an account that is locked; its access tokens end when its generation does."""
        await store.end_families(session, subject)


def _new_text() -> str:
    return f"{PREFIX}{secrets.token_urlsafe(32)}"
