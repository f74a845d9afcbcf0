"""Operations in the database; a lease says that a living process works on one."""

import uuid
from collections.abc import Mapping
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
        thing=row["thing"],
        result=row["result"],
    )


async def add(session: TenantSession, operation: Operation, *, exclusive: str, leased_until: datetime) -> None:
    """Write a new operation, leased to this process until then.

    Raises:
        Conflict: one of the tenant's that says the same `exclusive` is running.
    """
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
        thing=operation.thing,
        exclusive=exclusive,
    )


async def get(session: Session, operation_id: uuid.UUID) -> Operation | None:
    """Return the operation of that identifier."""
    row = await session.row(OPERATIONS, OPERATIONS.c.id == operation_id)
    return None if row is None else _operation(row)


async def running(session: TenantSession, exclusive: str) -> Operation | None:
    """Return the tenant's operation that excludes others of that subject now."""
    row = await session.row(OPERATIONS, OPERATIONS.c.exclusive == exclusive)
    return None if row is None else _operation(row)


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
) -> bool:
    """Record how far it is and keep the lease; return whether it still runs."""
    is_running = (OPERATIONS.c.id == operation_id, OPERATIONS.c.state == OperationState.RUNNING.value)
    return bool(await session.update(OPERATIONS, *is_running, done=done, total=total, leased_until=leased_until))


async def note(session: TenantSession, operation_id: uuid.UUID, result: Mapping[str, object]) -> None:
    """Keep what whoever takes it up will need; its end replaces it."""
    is_running = (OPERATIONS.c.id == operation_id, OPERATIONS.c.state == OperationState.RUNNING.value)
    await session.update(OPERATIONS, *is_running, result=result)


async def renew(session: TenantSession, operation_id: uuid.UUID, *, leased_until: datetime) -> None:
    """Keep the lease."""
    await session.update(OPERATIONS, OPERATIONS.c.id == operation_id, leased_until=leased_until)


async def finish(
    session: TenantSession,
    operation_id: uuid.UUID,
    state: OperationState,
    *,
    error: str | None = None,
    result: Mapping[str, object] | None = None,
) -> bool:
    """Record its end, unless it has ended; return whether that was done."""
    error = None if error is None else error[:MAX_ERROR]
    is_running = (OPERATIONS.c.id == operation_id, OPERATIONS.c.state == OperationState.RUNNING.value)
    return bool(
        await session.update(OPERATIONS, *is_running, state=state.value, error=error, exclusive=None, result=result)
    )
