"""Writing down: acts in their own transaction, refusals and sign-ins in groups.

Rules: an act's record commits or fails together with the act; a refusal and a sign-in change
nothing, so they are put in a bounded queue and written soon after, equal ones of one flush as one
record with their number; who manages or signs in waits until it is written, the caller of a
prediction does not. What could not be written waits and is tried again. When the queue is full,
further refusals of a kind share one record of `several`, with their number: none goes uncounted.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from maas_gateway.audit import store
from maas_gateway.audit.chain import AuditRecord, link
from maas_gateway.audit.event import AuditEvent
from maas_gateway.clock import Clock
from maas_gateway.database.engine import Database
from maas_gateway.database.sessions import TenantSession
from maas_gateway.identifiers import TenantId

_MAX_WAITING = 1_000
_MAX_ACTOR = 160
_MAX_THING = 400
_SEVERAL = "several"

_Key = tuple[TenantId, str, str, str, str | None]


class AuditLog:
    """The record of acts and refusals.

    Args:
        database: the main database.
        clock: what time it is.
        on_lost: told how many refusals the full queue could not take each by itself.
    """

    def __init__(self, database: Database, clock: Clock, on_lost: Callable[[int], None] = lambda _: None) -> None:
        self._database = database
        self._clock = clock
        self._on_lost = on_lost
        self._waiting: dict[_Key, AuditEvent] = {}
        self._wake = asyncio.Event()
        self._flushing = asyncio.Lock()

    async def record(self, session: TenantSession, event: AuditEvent) -> AuditRecord:
        """Write the record of an act in the act's own transaction."""
        (record,) = await self._write(session, [_clipped(event)])
        return record

    def write_soon(self, tenant: TenantId, event: AuditEvent) -> None:
        """Have what has no transaction of its own written soon."""
        event = _clipped(event)
        if _key(tenant, event) not in self._waiting and len(self._waiting) >= _MAX_WAITING:
            self._on_lost(event.n_times)
            event = replace(event, actor=_SEVERAL, thing=_SEVERAL, detail={})
        key = _key(tenant, event)
        found = self._waiting.get(key)
        self._waiting[key] = event if found is None else replace(found, n_times=found.n_times + event.n_times)
        self._wake.set()

    async def write_now(self, tenant: TenantId, event: AuditEvent) -> None:
        """Have it written, and wait until it is."""
        self.write_soon(tenant, event)
        await self.flush()

    async def flush(self) -> None:
        """Write what is waiting, one transaction a chain; what cannot be written waits on.

        Flushes queue, so that a crowd of refused callers waits for two transactions and not for one each.
        """
        async with self._flushing:
            waiting, self._waiting = self._waiting, {}
            by_tenant: dict[TenantId, list[AuditEvent]] = {}
            for key, event in waiting.items():
                by_tenant.setdefault(key[0], []).append(event)
            try:
                for tenant, events in list(by_tenant.items()):
                    async with self._database.write(tenant) as session:
                        await self._write(session, events)
                    del by_tenant[tenant]
            finally:
                for tenant, events in by_tenant.items():
                    for event in events:
                        self.write_soon(tenant, event)

    async def run(self, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Write waiting refusals until cancelled, a few times a second at most."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.flush()
            await pause(0.1)

    async def _write(self, session: TenantSession, events: Sequence[AuditEvent]) -> list[AuditRecord]:
        number, previous = await store.head(session)
        records = []
        for event in events:
            number += 1
            record = link(session.tenant, number, self._clock.now(), event, previous=previous)
            await store.append(session, record)
            records.append(record)
            previous = record.digest
        await store.set_head(session, records[-1])
        return records


def _key(tenant: TenantId, event: AuditEvent) -> _Key:
    return tenant, event.kind, event.actor, event.thing, event.reason


def _clipped(event: AuditEvent) -> AuditEvent:
    """Shorten and clean what a caller may have made up, so that every engine can keep it."""
    return replace(event, actor=_clean(event.actor, _MAX_ACTOR), thing=_clean(event.thing, _MAX_THING))


def _clean(text: str, length: int) -> str:
    """Return what PostgreSQL keeps, which has no NUL and no half of a surrogate pair in a text."""
    return text[:length].replace("\x00", "\ufffd").encode(errors="replace").decode()
