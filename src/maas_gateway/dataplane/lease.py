"""This process's lease: how far it has followed the registry and the keys, said twice a second.

Rules: it is renewed only when everything that this process has noticed is in force: models that are
no longer wanted are gone from memory, old keys are dropped; a lease lasts five seconds, so whoever
waits for all processes waits no longer than that for one that cannot answer.
"""

import asyncio
import uuid
from datetime import timedelta
from typing import Final

from maas_gateway.clock import Clock
from maas_gateway.database.changes import Changes
from maas_gateway.database.engine import Database
from maas_gateway.dataplane.reconcile import Reconciler
from maas_gateway.dataplane.servables import Servables
from maas_gateway.keyring import store as keys
from maas_gateway.registry import store as registry
from maas_gateway.workers import store
from maas_gateway.workers.store import Followed

LEASE: Final = timedelta(seconds=5)
_RENEW_EVERY_S: Final = 0.5


class Lease:
    """Says how far this process is.

    Args:
        database: the main database.
        changes: what this process has noticed.
        reconciler: what it serves.
        servables: what it has in memory.
        clock: what time it is.
    """

    def __init__(
        self, database: Database, changes: Changes, reconciler: Reconciler, servables: Servables, *, clock: Clock
    ) -> None:
        self._database = database
        self._changes = changes
        self._reconciler = reconciler
        self._servables = servables
        self._clock = clock
        self._worker = uuid.uuid4()

    async def run(self) -> None:
        """Renew again and again until cancelled."""
        while True:
            await self.renew()
            await asyncio.sleep(_RENEW_EVERY_S)

    async def renew(self) -> None:
        """Renew, unless something that was noticed is not in force yet."""
        noticed = self._changes.seen()
        await self._reconciler.refresh()
        if self._reconciler.is_applying or self._servables.n_leaving:
            return
        followed = Followed(noticed.get(registry.TOPIC, 0), noticed.get(keys.TOPIC, 0))
        await store.renew(self._database, self._worker, followed, self._clock.now() + LEASE)

    async def end(self) -> None:
        """Say that this process serves no more."""
        await store.drop(self._database, self._worker)
