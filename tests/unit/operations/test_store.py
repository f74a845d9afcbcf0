"""Long acts in the database: who works on them, and who takes over; on both engines."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from builders.gateways import SQLITE
from maas_gateway.database.engine import Database
from maas_gateway.database.metadata import CHANGES
from maas_gateway.database.migrations import migrate
from maas_gateway.errors import Conflict
from maas_gateway.identifiers import TenantId, new_id
from maas_gateway.operations import store
from maas_gateway.operations.operation import Operation, OperationState

pytestmark = pytest.mark.anyio

OURS, THEIRS = TenantId(new_id()), TenantId(new_id())
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LEASE = timedelta(seconds=10)


def operation(tenant: TenantId = OURS, kind: str = "rotate") -> Operation:
    return Operation(
        operation_id=new_id(),
        tenant=tenant,
        kind=kind,
        subject={"purpose": "artifacts", "dry_run": False},
        state=OperationState.RUNNING,
        done=0,
        total=7,
        error=None,
        actor="ada@acme",
        created_at=NOW,
        thing="keyring artifacts",
    )


@pytest.fixture
async def database(tmp_path: Path, database_url: str) -> AsyncIterator[Database]:
    url = f"sqlite+aiosqlite:///{tmp_path / 'main.sqlite'}" if database_url == SQLITE else database_url
    database = Database(url, CHANGES)
    await migrate(database, "main")
    yield database
    await database.close()


async def added(database: Database, made: Operation) -> Operation:
    async with database.write(made.tenant) as session:
        await store.add(session, made, exclusive=made.kind, leased_until=NOW + LEASE)
    return made


async def test_operation_comes_back_as_it_was_to_its_own_tenant_only(database: Database) -> None:
    made = await added(database, operation())
    async with database.read(OURS) as session:
        assert await store.get(session, made.operation_id) == made
        assert await store.running(session, "rotate") == made
        assert await store.running(session, "erase") is None
    async with database.read(THEIRS) as session:
        assert await store.get(session, made.operation_id) is None
        assert await store.running(session, "rotate") is None


async def test_progress_is_told_and_keeps_the_lease(database: Database) -> None:
    made = await added(database, operation())
    later = NOW + 2 * LEASE
    async with database.write(OURS) as session:
        await store.progress(session, made.operation_id, done=3, total=8, leased_until=later)
    async with database.read(OURS) as session:
        found = await store.get(session, made.operation_id)
    assert found is not None
    assert (found.done, found.total) == (3, 8)
    assert await store.abandoned(database, NOW + 1.5 * LEASE, later) == ()


@pytest.mark.parametrize("error", [None, "why", "x" * 5_000], ids=["none", "a sentence", "too long"])
async def test_finished_operation_is_running_no_more(database: Database, error: str | None) -> None:
    made = await added(database, operation())
    async with database.write(OURS) as session:
        await store.finish(session, made.operation_id, OperationState.FAILED, error=error)
        assert await store.running(session, "rotate") is None
        found = await store.get(session, made.operation_id)
    assert found is not None
    assert (found.state, found.error) == (OperationState.FAILED, error and error[:500])
    assert await store.abandoned(database, NOW + 9 * LEASE, NOW + 10 * LEASE) == ()


async def test_abandoned_operation_of_any_tenant_is_leased_to_one_process(database: Database) -> None:
    ours, theirs = await added(database, operation()), await added(database, operation(THEIRS))
    assert await store.abandoned(database, NOW, NOW + LEASE) == ()
    later = NOW + LEASE + timedelta(seconds=1)
    taken = await asyncio.gather(*[store.abandoned(database, later, later + LEASE) for _ in range(4)])
    found = [operation.operation_id for share in taken for operation in share]
    assert sorted(found) == sorted([ours.operation_id, theirs.operation_id])


def test_json_form_tells_what_clients_rely_on() -> None:
    told = operation().to_json()
    assert set(told) == {"id", "kind", "subject", "state", "done", "total", "error", "created_at", "result"}
    assert told["state"] == "running"


async def test_two_operations_of_one_subject_are_kept_apart_until_the_first_has_ended(database: Database) -> None:
    first = await added(database, operation())
    with pytest.raises(Conflict):
        await added(database, operation())
    await added(database, operation(THEIRS))
    async with database.write(OURS) as session:
        assert await store.finish(session, first.operation_id, OperationState.CANCELLED)
        assert not await store.finish(session, first.operation_id, OperationState.SUCCEEDED)
    await added(database, operation())


async def test_progress_of_an_ended_operation_is_refused(database: Database) -> None:
    made = await added(database, operation())
    async with database.write(OURS) as session:
        await store.finish(session, made.operation_id, OperationState.CANCELLED)
        assert not await store.progress(session, made.operation_id, done=1, total=2, leased_until=NOW)


async def test_lease_is_kept_while_a_step_takes_long(database: Database) -> None:
    made = await added(database, operation())
    async with database.write(OURS) as session:
        await store.renew(session, made.operation_id, leased_until=NOW + 5 * LEASE)
    assert await store.abandoned(database, NOW + 4 * LEASE, NOW + 9 * LEASE) == ()
