"""From a token to a principal: what the token says, cut down to what is bound now."""

from dataclasses import replace
from typing import Final

from maas_gateway.auth.standing import Standings
from maas_gateway.auth.tokens import Tokens, VerifiedToken
from maas_gateway.errors import CredentialRevoked
from maas_gateway.principal import Principal

MAX_KEPT: Final = 10_000


class Authenticator:
    """Decides who a bearer of a token is."""

    def __init__(self, tokens: Tokens, standings: Standings) -> None:
        self._tokens = tokens
        self._standings = standings
        self._kept: dict[VerifiedToken, Principal] = {}
        self._generation = -1

    async def principal(self, token: str) -> Principal:
        """Return the caller who bears `token`.

        Raises:
            TokenInvalid: it is not one of ours.
            TokenExpired: its life is over.
            CredentialRevoked: its subject may not act any more.
        """
        verified = await self._tokens.verify(token)
        if self._generation != self._standings.generation:
            self._kept.clear()
            self._generation = self._standings.generation
        kept = self._kept.get(verified)
        if kept is not None:
            return kept
        generation = self._generation
        standing = await self._standings.principal(verified.tenant, verified.subject)
        if standing is None:
            raise CredentialRevoked("the account may not act any more")
        principal = _within(standing, verified)
        if generation == self._standings.generation:
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            self._kept[verified] = principal
        return principal


def _within(standing: Principal, verified: VerifiedToken) -> Principal:
    on_models = {model: permits & verified.scope for model, permits in standing.on_models.items()}
    return replace(standing, everywhere=standing.everywhere & verified.scope, on_models=on_models)
