"""Writing down: acts in their own transaction, refusals in groups.

Rules: an act's record commits or fails together with the act; a refusal has no act, so it is put
in a bounded queue and written soon after, equal refusals of one flush as one record with their
number; the caller of a management act waits until its refusal is written, the caller of a
prediction does not. When the queue is full the refusal is counted by the metric and by the next
record of its kind, never dropped silently.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from maas_gateway.audit import store
from maas_gateway.audit.chain import FIRST, AuditRecord, link
from maas_gateway.audit.event import AuditEvent
from maas_gateway.clock import Clock
from maas_gateway.database.engine import Database
from maas_gateway.database.sessions import TenantSession
from maas_gateway.identifiers import TenantId

_MAX_WAITING = 1_000
_MAX_ACTOR = 160
_MAX_THING = 400

_Key = tuple[TenantId, str, str, str, str | None]


class AuditLog:
    """The record of acts and refusals.

    Args:
        database: the main database.
        clock: what time it is.
        on_lost: told how many refusals could not be written.
    """

    def __init__(self, database: Database, clock: Clock, on_lost: Callable[[int], None] = lambda _: None) -> None:
        self._database = database
        self._clock = clock
        self._on_lost = on_lost
        self._waiting: dict[_Key, tuple[AuditEvent, int]] = {}
        self._wake = asyncio.Event()

    async def record(self, session: TenantSession, event: AuditEvent) -> AuditRecord:
        """Write the record of an act in the act's own transaction."""
        found = await store.head(session)
        if found is None:
            await store.begin_chain(session)
            found = (0, FIRST)
        number, previous = found
        record = link(session.tenant, number + 1, self._clock.now(), _clipped(event), previous=previous)
        await store.append(session, record)
        return record

    def refused(self, tenant: TenantId, event: AuditEvent) -> None:
        """Have a refusal written soon."""
        key = (tenant, event.kind, event.actor, event.thing, event.reason)
        found = self._waiting.get(key)
        if found is None and len(self._waiting) >= _MAX_WAITING:
            self._on_lost(1)
            return
        self._waiting[key] = (event, 1 if found is None else found[1] + 1)
        self._wake.set()

    async def refused_now(self, tenant: TenantId, event: AuditEvent) -> None:
        """Have a refusal written, and wait until it is."""
        self.refused(tenant, event)
        await self.flush()

    async def flush(self) -> None:
        """Write what is waiting, one transaction a chain."""
        waiting, self._waiting = self._waiting, {}
        by_tenant: dict[TenantId, list[AuditEvent]] = {}
        for key, (event, n_times) in waiting.items():
            by_tenant.setdefault(key[0], []).append(replace(event, n_times=n_times))
        for tenant, events in by_tenant.items():
            async with self._database.write(tenant) as session:
                for event in events:
                    await self.record(session, event)

    async def run(self, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Write waiting refusals until cancelled, a few times a second at most."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.flush()
            await pause(0.1)


def _clipped(event: AuditEvent) -> AuditEvent:
    """Shorten what a caller may have made long."""
    thing = event.thing[:_MAX_THING].replace("\x00", "\ufffd")  # PostgreSQL keeps no NUL in a text
    return replace(event, actor=event.actor[:_MAX_ACTOR], thing=thing)
