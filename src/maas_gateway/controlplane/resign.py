"""New signatures under old manifests: what a rotation of `statements` leaves to be done.

Rules: a manifest is verified before it is signed again, and what does not verify is left as it is,
for whoever loads it to refuse; what it says does not change; safe to repeat.
"""

from collections.abc import AsyncIterator
from typing import Final

import structlog

from maas_gateway.database.engine import Database
from maas_gateway.database.unscoped import read_all, write_all
from maas_gateway.errors import SignatureRejected
from maas_gateway.keyring.statements import Statements
from maas_gateway.registry import store
from maas_gateway.registry.manifest import KIND

_BATCH: Final = 200


class Resign:
    """The manifests of every tenant's versions.

    Args:
        database: the main database.
        statements: signs and verifies.
    """

    def __init__(self, database: Database, statements: Statements) -> None:
        self._database = database
        self._statements = statements

    async def n_signed_by(self, key_id: str) -> int:
        """Return how many manifests a key has signed."""
        async with read_all(self._database) as session:
            return await store.n_signed_by(session, key_id)

    async def under(self, key_id: str) -> AsyncIterator[int]:
        """Sign every manifest with the primary, whose id is given; yields how many each batch has done."""
        hopeless: set[str] = set()
        while True:
            async with read_all(self._database) as session:
                found = await store.signed_by_others(session, key_id, limit=_BATCH + len(hopeless))
            batch = [row for row in found if row[2] not in hopeless]
            if not batch:
                return
            signed = []
            for model_id, version, before in batch:
                try:
                    body = await self._statements.verify(KIND, before)
                except SignatureRejected:
                    hopeless.add(before)
                    structlog.get_logger().critical("integrity_alarm", reason="a manifest does not verify")
                    continue
                signed.append((model_id, version, before, await self._statements.sign(KIND, body)))
            async with write_all(self._database) as session:
                for model_id, version, before, after in signed:
                    await store.sign_again(session, model_id, version, before=before, after=after)
            yield len(signed)
