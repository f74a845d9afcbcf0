"""Proving who one is: a user by password, a service account by its secret; the answer is a token.

Rules: an unknown name and a wrong secret take the same time and give the same text; who keeps failing waits
(see `throttle`), but a service account's right secret always counts: its 256 random bits are not found by trying,
so that failures of others need not keep it out. The scope is what was asked for, never more than the bindings give,
and all of that if nothing was asked. What is given is of the account's generation that was read together with the
secret that was checked: if the secret is replaced meanwhile, a user is refused, and a service account's token is
worth nothing. A user's sign-in can be refreshed, for no more than it was for; a service
account has its secret and needs none.

Source: RFC 6749 sections 4.3, 4.4, 5.2 and 6.
"""

from dataclasses import dataclass
from uuid import UUID

from maas_gateway.accounts import store as accounts
from maas_gateway.accounts.user import User
from maas_gateway.auth import client_secrets, store
from maas_gateway.auth.passwords import Passwords
from maas_gateway.auth.refresh import RefreshTokens
from maas_gateway.auth.standing import Standing, Standings
from maas_gateway.auth.throttle import SignInThrottle
from maas_gateway.auth.tokens import PASSWORD_CLIENT, Tokens
from maas_gateway.database.engine import Database
from maas_gateway.errors import InvalidRequest, Unauthenticated
from maas_gateway.permissions import Permission
from maas_gateway.principal import Principal


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token and what it is for.

    Attributes:
        token: the signed access token.
        life_s: how many seconds it lives.
        scope: the permissions it carries, separated by spaces.
        principal: who got it.
        refresh_token: what it can be exchanged for a new one with; empty if it cannot.
    """

    token: str
    life_s: int
    scope: str
    principal: Principal
    refresh_token: str = ""


@dataclass(frozen=True, slots=True)
class _Proved:
    """As what an account has proved who it is, and what else comes of that."""

    client_id: str
    generation: int
    family: UUID | None = None
    refresh_token: str = ""


class SignIn:
    """Turns a credential into a token."""

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        tokens: Tokens,
        standings: Standings,
        *,
        refresh: RefreshTokens,
        throttle: SignInThrottle,
    ) -> None:
        self._throttle = throttle
        self._refresh = refresh
        self._database = database
        self._passwords = passwords
        self._tokens = tokens
        self._standings = standings

    async def by_password(self, username: str, password: str, scope: str | None = None, *, address: str) -> IssuedToken:
        """Sign a user in.

        Args:
            username: `<name>@<tenant>`.
            password: as typed.
            scope: what is asked for; all that is bound if nothing.
            address: the client's; "" where there is none.

        Raises:
            Unauthenticated: the name or the password is wrong or was replaced meanwhile, or the account may not act.
            TooManyAttempts: it comes too early after others that failed.
            Overloaded: too many sign-ins are being looked at.
            InvalidRequest: the scope names what is no permission.
        """
        user = await self._proven(username, password, address)
        if user is None:
            raise Unauthenticated("the username or the password is wrong")
        principal = _active(await self._standings.of(user.tenant, user.subject))
        granted = _granted(principal, scope)
        text, family = await self._refresh.begin(user, granted)
        proved = _Proved(PASSWORD_CLIENT, user.generation, family, text)
        return await self._issue(principal, granted, proved)

    async def by_secret(self, client_id: str, secret: str, scope: str | None = None, *, address: str) -> IssuedToken:
        """Sign a service account in.

        Args:
            client_id: the account's.
            secret: the account's.
            scope: what is asked for; all that is bound if nothing.
            address: the client's; "" where there is none.

        Raises:
            Unauthenticated: the client id or the secret is wrong, or the account may not act.
            TooManyAttempts: they are wrong, and that comes too early after others that were.
            Overloaded: they are wrong, and too many sign-ins are being looked at.
            InvalidRequest: the scope names what is no permission.
        """
        account = await store.client(self._database, client_id)
        digest = None if account is None else account.secret_digest
        if not client_secrets.is_right(secret, digest) or account is None:
            await self._throttle.failed(f"client {client_id}", address)
            raise Unauthenticated("the client id or the client secret is wrong")
        principal = _active(await self._standings.of(account.tenant, account.subject))
        return await self._issue(principal, _granted(principal, scope), _Proved(client_id, account.generation))

    async def by_refresh(self, text: str, scope: str | None = None) -> IssuedToken:
        """Exchange a refresh token for a new access token and a new refresh token.

        Raises:
            Unauthenticated: the refresh token is unknown or has expired, or the account may not act.
            TokenReused: it was spent before; nothing of that sign-in counts any more.
            InvalidRequest: the scope names what is no permission.
        """
        asked = None if not scope else _permissions(scope)
        spent = await self._refresh.spend(text)
        token = spent.token
        principal = _active(await self._standings.of(token.tenant, token.subject))
        granted = principal.anywhere & (token.scope if asked is None else token.scope & asked)
        proved = _Proved(PASSWORD_CLIENT, spent.generation, token.family, spent.following)
        return await self._issue(principal, granted, proved)

    async def _proven(self, username: str, password: str, address: str) -> User | None:
        """Return the user whose password it is, or None."""
        async with self._throttle.attempt(f"user {username}", address) as attempt:
            user = await store.user(self._database, username)
            is_right, stronger = await self._passwords.check(password, None if user is None else user.password_hash)
            if user is None or not is_right:
                return None
            await self._throttle.succeeded(attempt, user.tenant, user.subject)
        if stronger is not None:
            async with self._database.write(user.tenant) as session:
                await accounts.rehash(session, user, stronger)
        return user

    async def _issue(self, principal: Principal, granted: frozenset[Permission], proved: _Proved) -> IssuedToken:
        token = await self._tokens.issue(
            principal.tenant,
            principal.subject,
            client_id=proved.client_id,
            scope=granted,
            generation=proved.generation,
            family=proved.family,
        )
        scope = " ".join(sorted(granted))
        return IssuedToken(token, self._tokens.rules.life_s, scope, principal, proved.refresh_token)


def _active(standing: Standing | None) -> Principal:
    if standing is None:
        raise Unauthenticated("the account may not act any more")
    return standing.principal


def _granted(principal: Principal, scope: str | None) -> frozenset[Permission]:
    return principal.anywhere if not scope else principal.anywhere & _permissions(scope)


def _permissions(scope: str) -> frozenset[Permission]:
    try:
        return frozenset(Permission(text) for text in scope.split())
    except ValueError as cause:
        raise InvalidRequest(f"scope: {cause}") from cause
