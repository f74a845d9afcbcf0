"""Operations in the database; a lease says that a living process works on one."""

import uuid
from datetime import datetime

from sqlalchemy import RowMapping

from maas_gateway.database.engine import Database
from maas_gateway.database.sessions import Session, TenantSession
from maas_gateway.database.unscoped import read_all, write_all
from maas_gateway.identifiers import TenantId
from maas_gateway.operations.operation import Operation, OperationState
from maas_gateway.operations.tables import MAX_ERROR, OPERATIONS


def _operation(row: RowMapping) -> Operation:
    return Operation(
        operation_id=row["id"],
        tenant=TenantId(row["tenant_id"]),
        kind=row["kind"],
        subject=row["subject"],
        state=OperationState(row["state"]),
        done=row["done"],
        total=row["total"],
        error=row["error"],
        actor=row["actor"],
        created_at=row["created_at"],
    )


async def add(session: TenantSession, operation: Operation, *, leased_until: datetime) -> None:
    """Write a new operation, leased to this process until then."""
    await session.insert(
        OPERATIONS,
        id=operation.operation_id,
        kind=operation.kind,
        subject=dict(operation.subject),
        state=operation.state.value,
        done=operation.done,
        total=operation.total,
        error=operation.error,
        actor=operation.actor,
        created_at=operation.created_at,
        leased_until=leased_until,
    )


async def get(session: Session, operation_id: uuid.UUID) -> Operation | None:
    """Return the operation of that identifier."""
    row = await session.row(OPERATIONS, OPERATIONS.c.id == operation_id)
    return None if row is None else _operation(row)


async def running(session: TenantSession, kind: str) -> tuple[Operation, ...]:
    """Return the tenant's operations of that kind that are not finished."""
    rows = await session.rows(OPERATIONS, OPERATIONS.c.kind == kind, OPERATIONS.c.state == OperationState.RUNNING.value)
    return tuple(_operation(row) for row in rows)


async def abandoned(database: Database, now: datetime, leased_until: datetime) -> tuple[Operation, ...]:
    """Lease to this process, whichever tenant's, every running operation whose own process has let go of it."""
    is_abandoned = (OPERATIONS.c.state == OperationState.RUNNING.value, OPERATIONS.c.leased_until < now)
    async with read_all(database) as session:
        if not await session.count(OPERATIONS, *is_abandoned):
            return ()  # the usual case takes no writer's lock
    async with write_all(database) as session:
        rows = await session.rows(OPERATIONS, *is_abandoned, for_update=True)
        for row in rows:
            await session.update(OPERATIONS, OPERATIONS.c.id == row["id"], leased_until=leased_until)
    return tuple(_operation(row) for row in rows)


async def progress(
    session: TenantSession, operation_id: uuid.UUID, *, done: int, total: int, leased_until: datetime
) -> None:
    """Record how far it is and keep the lease."""
    await session.update(OPERATIONS, OPERATIONS.c.id == operation_id, done=done, total=total, leased_until=leased_until)


async def finish(
    session: TenantSession, operation_id: uuid.UUID, state: OperationState, *, error: str | None = None
) -> None:
    """Record its end."""
    error = None if error is None else error[:MAX_ERROR]
    await session.update(OPERATIONS, OPERATIONS.c.id == operation_id, state=state.value, error=error)
