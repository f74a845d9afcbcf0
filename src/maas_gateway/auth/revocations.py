"""Which access tokens are worth nothing although they have not expired: revoked ones, and those of an ended sign-in.

Rules: kept in memory until anything about accounts changes; there are few, because each is forgotten once
it would have expired.
"""

from typing import Final

from maas_gateway.auth import store
from maas_gateway.auth.tokens import VerifiedToken
from maas_gateway.clock import Clock
from maas_gateway.database.engine import Database
from maas_gateway.memory import Memory

_ALL: Final = "all"


class Revocations:
    """What has been revoked."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._kept: Memory[str, frozenset[str]] = Memory(1)

    def forget(self) -> None:
        """Ask the database again from now on."""
        self._kept.forget()

    async def has(self, token: VerifiedToken) -> bool:
        """Tell whether a token, or the sign-in that it comes from, was revoked."""
        revoked = await self._kept.find(_ALL, self._read)
        return token.token_id in revoked or token.token_id.partition(".")[0] in revoked

    async def _read(self) -> frozenset[str]:
        return await store.revoked(self._database, self._clock.now())
