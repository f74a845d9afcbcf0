"""Acts recorded with themselves, refusals counted and kept within bounds; on both engines."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from builders.gateways import SQLITE, World, running_gateway
from maas_gateway.accounts import store as accounts
from maas_gateway.audit import store
from maas_gateway.audit.chain import AuditRecord, verify
from maas_gateway.audit.event import AuditEvent, Outcome
from maas_gateway.audit.log import AuditLog
from maas_gateway.audit.tables import AUDIT_RECORDS
from maas_gateway.clock import SystemClock
from maas_gateway.database.engine import Database
from maas_gateway.database.metadata import CHANGES
from maas_gateway.database.migrations import migrate
from maas_gateway.errors import Conflict, Unavailable
from maas_gateway.identifiers import PLATFORM, TenantId, new_id

pytestmark = pytest.mark.anyio

TENANT, OTHER = TenantId(new_id()), TenantId(new_id())


def act(thing: str = "model m") -> AuditEvent:
    return AuditEvent("model.promoted", "ada@acme", thing, detail={"version": 1, "before": None, "exclusive": True})


def refusal(thing: str = "GET /x", reason: str = "permission-denied") -> AuditEvent:
    return AuditEvent("request.refused", "ada@acme", thing, Outcome.REFUSED, reason)


@asynccontextmanager
async def migrated(folder: Path, url: str) -> AsyncIterator[Database]:
    database = Database(f"sqlite+aiosqlite:///{folder / 'audit.sqlite'}" if url == SQLITE else url, CHANGES)
    await migrate(database, "main")
    yield database
    await database.close()


async def chain(database: Database, tenant: TenantId = TENANT) -> list[AuditRecord]:
    async with database.read(tenant) as session:
        return await store.records(session)


async def test_recorded_acts_come_back_as_they_were_and_verify(tmp_path: Path, database_url: str) -> None:
    async with migrated(tmp_path, database_url) as database:
        log = AuditLog(database, SystemClock())
        async with database.write(TENANT) as session:
            written = [await log.record(session, act(f"model {n}")) for n in range(3)]
        found = await chain(database)
        assert found == written
        assert verify(found) == written[-1].digest


async def test_tenants_have_chains_of_their_own(tmp_path: Path, database_url: str) -> None:
    async with migrated(tmp_path, database_url) as database:
        log = AuditLog(database, SystemClock())
        for tenant in (TENANT, OTHER, TENANT):
            async with database.write(tenant) as session:
                await log.record(session, act())
        assert [record.number for record in await chain(database)] == [1, 2]
        assert [record.number for record in await chain(database, OTHER)] == [1]
        verify(await chain(database))
        verify(await chain(database, OTHER))


async def test_many_writers_at_once_make_one_chain_from_its_first_record(tmp_path: Path, database_url: str) -> None:
    async with migrated(tmp_path, database_url) as one, migrated(tmp_path, database_url) as other:

        async def write(database: Database, number: int) -> None:
            async with database.write(TENANT) as session:
                await AuditLog(database, SystemClock()).record(session, act(f"model {number}"))

        for n_rounds in (1, 2):  # into a chain that is not begun yet, and into one that is
            await asyncio.gather(*[write(database, number) for number in range(8) for database in (one, other)])
            found = await chain(one)
            assert [record.number for record in found] == list(range(1, 16 * n_rounds + 1))
            verify(found)


async def test_act_that_fails_after_its_record_leaves_none(tmp_path: Path, database_url: str) -> None:
    """The act breaks a constraint of the database behind the record: both are gone."""
    async with migrated(tmp_path, database_url) as database:
        log = AuditLog(database, SystemClock())
        async with database.write(TENANT) as session:
            await log.record(session, act())

        async def fail_behind_the_record() -> None:
            async with database.write(TENANT) as session:
                record = await log.record(session, act("model that never was"))
                await store.append(session, record)  # the number is taken

        with pytest.raises(Conflict):
            await fail_behind_the_record()
        found = await chain(database)
        assert [record.number for record in found] == [1]
        async with database.write(TENANT) as session:
            await log.record(session, act())
        verify(await chain(database))


async def test_act_whose_record_cannot_be_written_did_not_happen(tmp_path: Path, database_url: str) -> None:
    """Someone has put a record where the next one belongs: the act fails with its record."""
    async with running_gateway(tmp_path, database_url) as world:
        owner = await world.tenant("acme")
        principal = await world.principal(owner)
        await world.gateway.credentials.add_user(principal, "ada")
        await world.gateway.audit.flush()
        planted = await _plant(world, principal.tenant)
        answer = await world.http.post("/admin/v1/users", json={"name": "grace"}, headers=await world.headers(owner))
        assert answer.status_code >= 400
        users = [user.name for user in await world.gateway.credentials.users(principal)]
        assert sorted(users) == ["ada", "owner"]
        database = Database(world.settings.main_url, CHANGES)
        async with database.write(principal.tenant) as session:
            await session.delete(AUDIT_RECORDS, AUDIT_RECORDS.c.number == planted)
        await database.close()
        await world.gateway.credentials.add_user(principal, "grace")
        verify(await world.gateway.browse.events(principal, after=0, limit=1_000))


async def _plant(world: World, tenant: TenantId) -> int:
    database = Database(world.settings.main_url, CHANGES)
    async with database.write(tenant) as session:
        last = (await store.records(session))[-1]
        number = last.number + 1
        await store.append(session, AuditRecord(tenant, number, last.at, last.event, bytes(32)))
    await database.close()
    return number


async def test_equal_refusals_of_one_flush_are_one_record_with_their_number(tmp_path: Path, database_url: str) -> None:
    async with migrated(tmp_path, database_url) as database:
        log = AuditLog(database, SystemClock())
        for _ in range(5):
            log.write_soon(TENANT, refusal())
        log.write_soon(TENANT, refusal(reason="not-found"))
        log.write_soon(OTHER, refusal())
        await log.flush()
        assert [(r.event.reason, r.event.n_times) for r in await chain(database)] == [
            ("permission-denied", 5),
            ("not-found", 1),
        ]
        assert [record.event.n_times for record in await chain(database, OTHER)] == [1]
        await log.flush()
        assert len(await chain(database)) == 2


async def test_crowd_of_refused_callers_is_counted_whole_in_few_records(tmp_path: Path, database_url: str) -> None:
    async with migrated(tmp_path, database_url) as database:
        log = AuditLog(database, SystemClock())
        await asyncio.gather(*[log.write_now(TENANT, refusal()) for _ in range(500)])
        found = await chain(database)
        assert sum(record.event.n_times for record in found) == 500
        assert len(found) <= 5
        verify(found)


async def test_thousands_of_different_refusals_stay_within_bounds_and_none_goes_uncounted(tmp_path: Path) -> None:
    async with migrated(tmp_path, SQLITE) as database:
        lost: list[int] = []
        log = AuditLog(database, SystemClock(), lost.append)
        for number in range(20_000):
            log.write_soon(TENANT, refusal(f"GET /models/{number}"))
        assert len(log._waiting) <= 1_001
        await log.flush()
        found = await chain(database)
        assert len(found) == 1_001
        assert sum(record.event.n_times for record in found) == 20_000
        assert sum(lost) == 19_000
        (rest,) = [record.event for record in found if record.event.actor == "several"]
        assert (rest.thing, rest.n_times, rest.reason) == ("several", 19_000, "permission-denied")


async def test_refusal_that_cannot_be_written_waits_and_is_written_later(tmp_path: Path) -> None:
    async with migrated(tmp_path, SQLITE) as database:
        away = Database(f"sqlite+aiosqlite:///{tmp_path / 'nowhere' / 'audit.sqlite'}", CHANGES)
        log = AuditLog(away, SystemClock())
        for _ in range(3):
            with pytest.raises(Unavailable):
                await log.write_now(TENANT, refusal())
        log._database = database  # it is back
        await log.flush()
        assert [record.event.n_times for record in await chain(database)] == [3]
        await away.close()


MADE_UP = {
    "too long": "x" * 10_000,
    "a NUL": "a\x00b",
    "half a surrogate pair": "a\ud800b",
    "too long and not ASCII": "\U0001f600" * 1_000,
    "empty": "",
}


async def test_whatever_a_caller_names_can_be_recorded(tmp_path: Path, database_url: str) -> None:
    async with migrated(tmp_path, database_url) as database:
        log = AuditLog(database, SystemClock())
        for thing in MADE_UP.values():
            await log.write_now(TENANT, AuditEvent("request.refused", thing, thing, Outcome.REFUSED, "not-found"))
            async with database.write(TENANT) as session:
                await log.record(session, act(thing))
        found = await chain(database)
        assert len(found) == 2 * len(MADE_UP)
        verify(found)


async def test_background_writes_what_waits(tmp_path: Path) -> None:
    async with migrated(tmp_path, SQLITE) as database:
        log = AuditLog(database, SystemClock())
        running = asyncio.create_task(log.run())
        log.write_soon(TENANT, refusal())
        for _ in range(100):
            await asyncio.sleep(0.02)
            if await chain(database):
                break
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert len(await chain(database)) == 1


async def test_refusals_of_strangers_stand_in_the_platforms_chain_whatever_they_make_up(
    tmp_path: Path, database_url: str
) -> None:
    async with running_gateway(tmp_path, database_url) as world:
        await world.tenant("acme")
        for number in range(40):
            await world.http.request(f"METHOD{number}", f"/v1/models/made-up-{number}")
            await world.http.get(f"/admin/v1/models/made-up-{number}")
            await world.http.post("/oauth/token", data={"grant_type": f"made-up-{number}"})
        await world.gateway.audit.flush()
        operator = await world.principal(world.operator)
        found = await world.gateway.browse.events(operator, after=0, limit=10_000)
        verify(found)
        refused = [record.event for record in found if record.event.outcome is Outcome.REFUSED]
        assert sum(event.n_times for event in refused) == 120
        assert len({event.thing for event in refused}) == 3
        assert "made-up" not in str(refused)


NAMES = ["%00", "a%00b", "x" * 3_000, "%F0%9F%98%80", "a%2Fb", "%25", "a%0Ab"]


async def test_no_name_in_a_path_is_a_fault(tmp_path: Path, database_url: str) -> None:
    async with running_gateway(tmp_path, database_url) as world:
        headers = await world.headers(await world.tenant("acme"))
        for method, path in [
            (method, path.format(name=name))
            for name in NAMES
            for method, path in (
                ("GET", "/admin/v1/models/{name}"),
                ("GET", "/admin/v1/models/{name}/versions/1"),
                ("POST", "/admin/v1/models/{name}/versions/1:promote"),
                ("PUT", "/admin/v1/models/{name}/versions/1"),
                ("PUT", "/admin/v1/models/m/labels/{name}"),
                ("DELETE", "/admin/v1/models/{name}/labels/{name}"),
                ("GET", "/admin/v1/tenants/{name}"),
                ("POST", "/admin/v1/tenants/{name}:suspend"),
                ("GET", "/admin/v1/keyrings/{name}"),
                ("POST", "/admin/v1/keyrings/{name}:rotate"),
                ("GET", "/admin/v1/operations/{name}"),
                ("POST", "/v1/models/{name}:predict"),
                ("GET", "/v2/models/{name}"),
                ("GET", "/problems/{name}"),
                ("GET", "/docs/{name}"),
            )
        ]:
            answer = await world.http.request(
                method, path, headers=headers, json={"version": 1} if method == "PUT" else None
            )
            assert answer.status_code < 500, (method, path[:80], answer.text)
        await world.gateway.audit.flush()
        verify(await world.gateway.browse.events(await world.principal(world.owners["acme"]), after=0, limit=1_000))


async def test_platforms_chain_is_no_tenants(tmp_path: Path) -> None:
    async with migrated(tmp_path, SQLITE) as database:
        async with database.write(PLATFORM) as session:
            await AuditLog(database, SystemClock()).record(session, act())
            assert await accounts.users(session) == ()
        assert await chain(database) == []
