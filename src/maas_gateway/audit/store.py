"""Chains in the database; a chain's head row is locked while a record is put behind it."""

from sqlalchemy import RowMapping

from maas_gateway.audit.chain import FIRST, AuditRecord
from maas_gateway.audit.event import AuditEvent, Outcome
from maas_gateway.audit.tables import AUDIT_HEADS, AUDIT_RECORDS
from maas_gateway.database.sessions import TenantSession
from maas_gateway.identifiers import TenantId


def _record(row: RowMapping) -> AuditRecord:
    event = AuditEvent(
        kind=row["kind"],
        actor=row["actor"],
        thing=row["thing"],
        outcome=Outcome(row["outcome"]),
        reason=row["reason"],
        detail=row["detail"],
        n_times=row["n_times"],
    )
    return AuditRecord(TenantId(row["tenant_id"]), row["number"], row["at"], event, bytes(row["digest"]))


async def head(session: TenantSession) -> tuple[int, bytes]:
    """Lock the chain's head, begun if there is none; return its number and digest."""
    row = await session.row(AUDIT_HEADS, for_update=True)
    if row is None:
        await session.insert_unless_there(AUDIT_HEADS, number=0, digest=FIRST)
        row = await session.row(AUDIT_HEADS, for_update=True)
    assert row is not None
    return row["number"], bytes(row["digest"])


async def append(session: TenantSession, record: AuditRecord) -> None:
    """Write a record behind the one before it; `set_head` follows the last."""
    event = record.event
    await session.insert(
        AUDIT_RECORDS,
        number=record.number,
        at=record.at,
        kind=event.kind,
        actor=event.actor,
        thing=event.thing,
        outcome=event.outcome.value,
        reason=event.reason,
        detail=dict(event.detail),
        n_times=event.n_times,
        digest=record.digest,
    )


async def set_head(session: TenantSession, record: AuditRecord) -> None:
    """Make a record the head of its chain."""
    await session.update(AUDIT_HEADS, number=record.number, digest=record.digest)


async def records(session: TenantSession, *, after: int = 0, limit: int | None = None) -> list[AuditRecord]:
    """Return the chain's records behind number `after`, in order."""
    where = AUDIT_RECORDS.c.number > after
    return [
        _record(row) for row in await session.rows(AUDIT_RECORDS, where, order_by=[AUDIT_RECORDS.c.number], limit=limit)
    ]
