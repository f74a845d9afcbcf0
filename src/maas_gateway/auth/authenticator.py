"""From a token or an API key to a principal: what it says, cut down to what is bound now.

A token of another issuer, if a tenant has registered that, is decided on elsewhere (`federation`).

Rules: a token counts only while its account is of the generation that it was issued in, which ends when the
account's secret is replaced or the account disabled. A decision is kept until the token expires, anything about tenants or accounts changes, or other keys
may verify than when it was made. Most changes of keyrings are not of those keys: whether this one is gets
asked meanwhile, and if that cannot be told in half a second, every token is verified anew.
"""

import asyncio
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from maas_gateway.auth.api_keys import PREFIX, APIKeys
from maas_gateway.auth.federation import Federation
from maas_gateway.auth.revocations import Revocations
from maas_gateway.auth.standing import Standing, Standings
from maas_gateway.auth.tokens import Tokens
from maas_gateway.clock import Clock
from maas_gateway.errors import CredentialRevoked, GatewayError
from maas_gateway.identifiers import SubjectId, TenantId
from maas_gateway.memory import Memory
from maas_gateway.permissions import Permission
from maas_gateway.principal import Principal

MAX_KEPT: Final = 10_000
_IN_DOUBT_S: Final = 0.5

Spawn = Callable[[Coroutine[Any, Any, None]], None]


@dataclass(frozen=True, slots=True)
class _Known:
    principal: Principal
    until_s: float


class Authenticator:
    """Decides who a bearer of a token is."""

    def __init__(
        self,
        tokens: Tokens,
        api_keys: APIKeys,
        standings: Standings,
        revocations: Revocations,
        *,
        federation: Federation,
        clock: Clock,
        spawn: Spawn,
    ) -> None:
        self._tokens = tokens
        self._api_keys = api_keys
        self._revocations = revocations
        self._federation = federation
        self._spawn = spawn
        self._key_ids: frozenset[str] | None = None
        self._n_doubts = 0
        self._in_doubt_s = _IN_DOUBT_S
        self._standings = standings
        self._clock = clock
        self._known: Memory[str, _Known] = Memory(MAX_KEPT)

    async def principal(self, token: str) -> Principal:
        """Return the caller who bears `token`, an access token or an API key.

        Raises:
            TokenInvalid: it is not one of ours, nor one of an issuer that a tenant has registered.
            TokenExpired: its life is over.
            CredentialRevoked: its subject may not act any more.
            Unavailable: whether it counts cannot be told now.
        """
        known = self._known.get(token)
        if known is None or known.until_s <= self._clock.unix_s():
            self._known.drop(token)
            known = await self._known.find(token, partial(self._find_out, token))
        return known.principal

    def doubt_keys(self) -> None:
        """Verify every token anew if other keys may verify now; that is found out in the background."""
        self._n_doubts += 1
        if self._n_doubts == 1:
            self._spawn(self._settle_doubts())

    async def _settle_doubts(self) -> None:
        while self._n_doubts:
            n_settled = self._n_doubts  # those that come meanwhile are of something newer
            try:
                key_ids = await asyncio.wait_for(self._tokens.key_ids(), self._in_doubt_s)
            except (TimeoutError, GatewayError):
                key_ids = None
            if key_ids is None or key_ids != self._key_ids:
                self._tokens.forget()
                self._known.forget()
            self._key_ids = key_ids
            self._n_doubts -= n_settled

    def forget_standings(self) -> None:
        """Ask the database again who may do what."""
        self._standings.forget()
        self._revocations.forget()
        self._federation.forget()
        self._known.forget()

    async def _find_out(self, token: str) -> _Known:
        if token.startswith(PREFIX):
            key, until = await self._api_keys.verify(token)
            until_s = math.inf if until is None else until.timestamp()
            standing = await self._standing(key.tenant, key.subject)
            return _Known(_within(standing.principal, key.permissions), until_s)
        bearer = await self._federation.bearer(token)
        if bearer is not None:
            return _Known(bearer.principal, bearer.until_s)
        verified = await self._tokens.verify(token)
        if await self._revocations.has(verified):
            raise CredentialRevoked("the token was revoked")
        standing = await self._standing(verified.tenant, verified.subject)
        if verified.generation < standing.generation:  # a later one is not known here yet
            raise CredentialRevoked("the account's secret was replaced, or the account disabled, since")
        return _Known(_within(standing.principal, verified.scope), verified.expires_at + self._tokens.rules.skew_s)

    async def _standing(self, tenant: TenantId, subject: SubjectId) -> Standing:
        standing = await self._standings.of(tenant, subject)
        if standing is None:
            raise CredentialRevoked("the account may not act any more")
        return standing


def _within(standing: Principal, scope: frozenset[Permission]) -> Principal:
    on_models = {model: permits & scope for model, permits in standing.on_models.items()}
    return replace(standing, everywhere=standing.everywhere & scope, on_models=on_models)
