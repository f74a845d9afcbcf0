"""Transactions: what a tenant's session can reach, how two writers meet, what an outage looks like; on both engines."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from builders.gateways import SQLITE
from maas_gateway.accounts.tables import ROLE_BINDINGS, USERS
from maas_gateway.clock import SystemClock
from maas_gateway.database.changes import Changes
from maas_gateway.database.engine import Database
from maas_gateway.database.metadata import CHANGES
from maas_gateway.database.migrations import migrate
from maas_gateway.database.unscoped import read_all, write_all
from maas_gateway.errors import Conflict, InvalidRequest, Unavailable
from maas_gateway.identifiers import TenantId, new_id

pytestmark = pytest.mark.anyio

OURS, THEIRS = TenantId(new_id()), TenantId(new_id())
NOW = datetime(2026, 1, 1, 12, 0, 0, 123_456, tzinfo=UTC)


def user(name: str, **changes: Any) -> Mapping[str, Any]:
    return {"id": new_id(), "name": name, "password_hash": "x", "is_enabled": True, "created_at": NOW, **changes}


@asynccontextmanager
async def migrated(folder: Path, url: str, **options: Any) -> AsyncIterator[Database]:
    address = f"sqlite+aiosqlite:///{folder / 'main.sqlite'}" if url == SQLITE else url
    database = Database(address, CHANGES, **options)
    await migrate(database, "main")
    yield database
    await database.close()


@pytest.fixture
async def database(tmp_path: Path, database_url: str) -> AsyncIterator[Database]:
    async with migrated(tmp_path, database_url) as database:
        async with database.write(OURS) as session:
            await session.insert(USERS, **user("ours"))
        async with database.write(THEIRS) as session:
            await session.insert(USERS, **user("theirs"))
        yield database


async def names(database: Database) -> set[str]:
    async with read_all(database) as session:
        return {row["name"] for row in await session.rows(USERS)}


async def _write(database: Database) -> None:
    async with database.write(OURS) as session:
        await session.insert(USERS, **user("ours"))


async def test_tenants_session_reads_its_own_rows_only(database: Database) -> None:
    async with database.read(OURS) as session:
        assert [row["name"] for row in await session.rows(USERS)] == ["ours"]
        assert await session.row(USERS, USERS.c.name == "theirs") is None
        assert await session.row(USERS, USERS.c.tenant_id == THEIRS) is None
        assert await session.count(USERS) == 1
        assert (await session.rows(USERS, for_update=True))[0]["name"] == "ours"


async def test_tenants_session_changes_and_deletes_its_own_rows_only(database: Database) -> None:
    async with database.write(OURS) as session:
        assert await session.update(USERS, name="renamed") == 1
        assert await session.update(USERS, USERS.c.name == "theirs", name="stolen") == 0
        assert await session.delete(USERS, USERS.c.tenant_id == THEIRS) == 0
        assert await session.delete(USERS) == 1
    assert await names(database) == {"theirs"}


@pytest.mark.parametrize("how", ["insert", "insert_unless_there", "update"])
async def test_tenants_session_writes_no_row_of_another(database: Database, how: str) -> None:
    async with database.write(OURS) as session:
        with pytest.raises(ValueError, match="another tenant's row"):
            await getattr(session, how)(USERS, **user("smuggled", tenant_id=THEIRS))
    assert await names(database) == {"ours", "theirs"}


async def test_unscoped_session_sees_all_and_narrows_to_one(database: Database) -> None:
    async with write_all(database) as session:
        assert await session.count(USERS) == 2
        assert await session.within(OURS).count(USERS) == 1
        await session.within(OURS).insert(USERS, **user("second"))
    assert await names(database) == {"ours", "theirs", "second"}


async def test_exception_rolls_everything_back(database: Database) -> None:
    async def fail() -> None:
        async with database.write(OURS) as session:
            await session.insert(USERS, **user("gone"))
            await session.bump("accounts")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        await fail()
    assert await names(database) == {"ours", "theirs"}
    assert "accounts" not in await database.counters()


async def test_taken_name_is_a_conflict(database: Database) -> None:
    async def add_twice() -> None:
        async with database.write(OURS) as session:
            await session.insert(USERS, **user("ours"))

    with pytest.raises(Conflict):
        await add_twice()
    async with database.write(THEIRS) as session:
        await session.insert(USERS, **user("ours"))


async def test_insert_unless_there_leaves_what_is_there(database: Database) -> None:
    row = user("first")
    for name in ("first", "second"):
        async with database.write(OURS) as session:
            await session.insert_unless_there(USERS, **{**row, "name": name})
    assert await names(database) == {"ours", "theirs", "first"}


async def test_times_come_back_aware_and_to_the_microsecond(database: Database) -> None:
    there = NOW.astimezone(timezone(timedelta(hours=5)))
    async with database.write(OURS) as session:
        await session.insert(USERS, **user("late", created_at=there))
        row = await session.row(USERS, USERS.c.name == "late")
    assert row is not None
    assert row["created_at"] == NOW
    assert row["created_at"].utcoffset() == timedelta(0)


async def test_naive_time_is_refused(database: Database) -> None:
    async with database.write(OURS) as session:
        with pytest.raises(Exception, match="must be aware"):
            await session.insert(USERS, **user("naive", created_at=NOW.replace(tzinfo=None)))


async def test_text_with_a_nul_is_refused_on_both_engines_alike(database: Database) -> None:
    async with database.read(OURS) as session:
        with pytest.raises(InvalidRequest):
            await session.row(USERS, USERS.c.name == "a\x00b")
    async with database.write(OURS) as session:
        with pytest.raises(InvalidRequest):
            await session.insert(USERS, **user("a\x00b"))


async def test_error_tells_no_value(database: Database) -> None:
    async def fail() -> None:
        async with database.connection(is_write=True) as connection:
            await connection.execute(text("SELECT * FROM no_such_table WHERE a = :secret"), {"secret": "hunter2"})

    with pytest.raises(DBAPIError) as caught:
        await fail()
    assert "hunter2" not in str(caught.value)


async def test_two_writers_queue_instead_of_failing(tmp_path: Path, database_url: str) -> None:
    """Each reads, waits, then writes what it read plus one: on SQLite only BEGIN IMMEDIATE lets both through."""
    async with migrated(tmp_path, database_url) as one, migrated(tmp_path, database_url) as other:
        async with one.write(OURS) as session:
            await session.insert(ROLE_BINDINGS, id=new_id(), subject_id=new_id(), role="0", model="")

        async def raise_by_one(database: Database) -> None:
            async with database.write(OURS) as session:
                (row,) = await session.rows(ROLE_BINDINGS, for_update=True)
                await asyncio.sleep(0.005)
                await session.update(ROLE_BINDINGS, role=str(int(row["role"]) + 1))

        await asyncio.gather(*[raise_by_one(database) for _ in range(10) for database in (one, other)])
        async with one.read(OURS) as session:
            (row,) = await session.rows(ROLE_BINDINGS)
        assert row["role"] == "20"


async def test_reader_is_not_held_up_by_a_writer(tmp_path: Path, database_url: str) -> None:
    async with migrated(tmp_path, database_url) as one, migrated(tmp_path, database_url) as other:
        async with one.write(OURS) as writing:
            await writing.insert(USERS, **user("unseen"))
            async with asyncio.timeout(2), other.read(OURS) as reading:
                assert await reading.count(USERS) == 0
        async with other.read(OURS) as reading:
            assert await reading.count(USERS) == 1


@pytest.mark.parametrize(
    "url",
    ["postgresql+asyncpg://nobody@127.0.0.1:9/none", "sqlite+aiosqlite:////nowhere/at/all.sqlite"],
    ids=["postgres", "sqlite"],
)
async def test_database_that_does_not_answer_is_unavailable(url: str) -> None:
    database = Database(url, CHANGES)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await database.counters()
    await database.close()
    await asyncio.sleep(0.05)  # the driver's thread takes its leave of the loop


async def test_connection_that_the_server_breaks_off_is_unavailable_and_the_next_one_works(postgres_url: str) -> None:
    database = Database(postgres_url, CHANGES)
    await migrate(database, "main")

    async def break_off() -> None:
        async with database.connection(is_write=True) as connection:
            await connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    with pytest.raises(Unavailable):
        await break_off()
    assert await database.counters() == {}
    await database.close()


async def test_all_connections_in_use_is_unavailable(tmp_path: Path) -> None:
    async with migrated(tmp_path, SQLITE, pool_size=1) as database:
        database.engine.sync_engine.pool._timeout = 0.1  # type: ignore[attr-defined]
        async with database.read(OURS), database.read(OURS):
            with pytest.raises(Unavailable):
                await database.counters()


async def test_writers_of_one_process_take_turns_and_leave_the_connections_to_readers(tmp_path: Path) -> None:
    async with migrated(tmp_path, SQLITE, pool_size=2) as database:
        database.engine.sync_engine.pool._timeout = 0.1  # type: ignore[attr-defined]
        done: list[int] = []

        async def write(number: int) -> None:
            async with database.write(OURS) as session:
                await session.insert(USERS, **user(f"user {number}"))
                done.append(number)

        async with asyncio.TaskGroup() as writers:
            async with database.write(OURS):
                for number in range(20):
                    writers.create_task(write(number))
                    await asyncio.sleep(0.01)
                assert await database.counters() == {}
            assert not done
        assert done == list(range(20))


async def test_writer_that_is_cancelled_while_it_waits_holds_up_nobody(tmp_path: Path) -> None:
    async with migrated(tmp_path, SQLITE) as database:
        async with database.write(OURS):
            waiting = asyncio.create_task(_write(database))
            await asyncio.sleep(0.01)
            waiting.cancel()
            await asyncio.wait([waiting])
        async with asyncio.timeout(5):
            await _write(database)


@pytest.mark.parametrize("overwrites", [True, False], ids=["key store", "main"])
async def test_sqlite_is_opened_safely(tmp_path: Path, *, overwrites: bool) -> None:
    async with (
        migrated(tmp_path, SQLITE, overwrites_deleted=overwrites) as database,
        database.connection(is_write=False) as connection,
    ):
        found = {
            name: (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
        }
        overwritten = (await connection.exec_driver_sql("PRAGMA secure_delete")).scalar_one()
    assert found == {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 2, "busy_timeout": 30_000}
    assert overwritten or not overwrites  # some builds of SQLite overwrite anyway


async def test_change_counter_is_raised_with_its_transaction(database: Database) -> None:
    for _ in range(3):
        async with database.write(OURS) as session:
            await session.bump("accounts")
    async with database.write(OURS) as session:
        await session.bump("registry")
    assert await database.counters() == {"accounts": 3, "registry": 1}


async def test_first_changes_of_a_topic_at_once_are_all_counted(tmp_path: Path, database_url: str) -> None:
    async with migrated(tmp_path, database_url) as one, migrated(tmp_path, database_url) as other:

        async def bump(database: Database) -> None:
            async with database.write(OURS) as session:
                await session.bump("accounts")

        await asyncio.gather(*[bump(database) for _ in range(6) for database in (one, other)])
        assert await one.counters() == {"accounts": 12}


async def test_listeners_hear_of_their_topic_and_of_nothing_twice(database: Database) -> None:
    changes, heard = Changes([database], SystemClock()), list[str]()
    changes.listen("accounts", lambda: heard.append("accounts"))
    changes.listen("registry", lambda: heard.append("registry"))
    await changes.look()
    async with database.write(OURS) as session:
        await session.bump("accounts")
    await changes.look()
    await changes.look()
    assert heard == ["accounts"]
    changes.announce("registry")
    assert heard == ["accounts", "registry"]


async def test_change_of_another_process_is_heard_within_a_second(tmp_path: Path, database_url: str) -> None:
    async with migrated(tmp_path, database_url) as here, migrated(tmp_path, database_url) as there:
        heard = asyncio.Event()
        changes = Changes([here], SystemClock())
        changes.listen("accounts", heard.set)
        following = asyncio.create_task(changes.run())
        await asyncio.sleep(0.05)
        async with there.write(OURS) as session:
            await session.bump("accounts")
        await asyncio.wait_for(heard.wait(), 1)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
