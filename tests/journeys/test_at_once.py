"""What ends a sign-in, a password or a key, at once with what uses it: the end wins, on both databases.

Where two transactions must overlap, which only PostgreSQL allows, the database itself stops one of them: a trigger
waits for a lock that the test holds. Where something is to happen while a password is being hashed, the hashing waits.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from builders.gateways import Account, World, bearer, running_gateway
from maas_gateway.database.engine import Database
from maas_gateway.database.metadata import CHANGES
from maas_gateway.permissions import Permission

pytestmark = pytest.mark.anyio

A = "/admin/v1"
EVENTS = f"{A}/audit/events"
NEW = "a new password of mine"
_LOCK = 4_711


@dataclass
class Place:
    """A gateway, one of its users, and the header of the owner, who has signed in before.

    Attributes:
        world: the gateway.
        user: of tenant `acme`, with the role auditor.
        owner: the header.
    """

    world: World
    user: Account
    owner: dict[str, str]

    async def sign_in(self, password: str | None = None) -> httpx.Response:
        form = self.user.form() if password is None else {**self.user.form(), "password": password}
        return await self.world.http.post("/oauth/token", data=form)

    async def refresh(self, told: dict[str, Any]) -> httpx.Response:
        form = {"grant_type": "refresh_token", "refresh_token": told["refresh_token"]}
        return await self.world.http.post("/oauth/token", data=form)

    async def acts(self, told: dict[str, Any]) -> int:
        return (await self.world.http.get(EVENTS, headers=bearer(told["access_token"]))).status_code

    async def reset(self) -> str:
        path = f"{A}/users/{self.user.subject}:reset-password"
        answer = await self.world.http.post(path, headers=self.owner)
        assert answer.status_code == 200, answer.text
        return answer.json()["password"]  # type: ignore[no-any-return]


@asynccontextmanager
async def a_place(folder: Path, database_url: str) -> AsyncIterator[Place]:
    async with running_gateway(folder, database_url) as world:
        owner = await world.tenant("acme")
        yield Place(world, await world.user("acme", "ada", "auditor"), await world.headers(owner))


@pytest.fixture
async def place(tmp_path: Path, database_url: str) -> AsyncIterator[Place]:
    async with a_place(tmp_path, database_url) as place:
        yield place


@pytest.fixture
async def overlapping(tmp_path: Path, postgres_url: str) -> AsyncIterator[Place]:
    """A place in whose database transactions can overlap."""
    async with a_place(tmp_path, postgres_url) as place:
        yield place


# --- while a password is being hashed -------------------------------------------------------------


@dataclass
class Checking:
    """A check of a password that has come to its end and is held there."""

    is_reached: asyncio.Event = field(default_factory=asyncio.Event)
    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)
    stronger: str | None = None


@contextmanager
def checking(world: World) -> Iterator[Checking]:
    """Hold the first check of a password after it has found what it finds."""
    passwords, held = world.gateway.sign_in._passwords, Checking()
    check = passwords.check

    async def slow(*given: Any) -> tuple[bool, str | None]:
        passwords.check = check  # type: ignore[method-assign]
        is_right, stronger = await check(*given)
        held.is_reached.set()
        await held.may_go_on.wait()
        return is_right, held.stronger or stronger

    passwords.check = slow  # type: ignore[method-assign]
    yield held
    passwords.check = check  # type: ignore[method-assign]


async def test_sign_in_with_the_old_password_fails_if_that_is_reset_meanwhile(place: Place) -> None:
    with checking(place.world) as held:
        signing_in = asyncio.create_task(place.sign_in())
        await held.is_reached.wait()
        new = await place.reset()
        held.may_go_on.set()
        refused = await signing_in
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    assert (await place.sign_in(new)).status_code == 200


async def test_stronger_hash_of_the_old_password_does_not_replace_the_new_one(place: Place) -> None:
    """As when the parameters have risen: what is stored for a sign-in in flight is of a password that is none now."""
    with checking(place.world) as held:
        held.stronger = await place.world.gateway.sign_in._passwords.hash(place.user.secret)
        signing_in = asyncio.create_task(place.sign_in())
        await held.is_reached.wait()
        new = await place.reset()
        held.may_go_on.set()
        assert (await signing_in).status_code == 400
    assert (await place.sign_in()).status_code == 400
    assert (await place.sign_in(new)).status_code == 200


async def test_two_sign_ins_at_once_both_succeed_although_each_strengthens_the_hash(place: Place) -> None:
    passwords = place.world.gateway.sign_in._passwords
    with checking(place.world) as held:
        held.stronger = await passwords.hash(place.user.secret)
        first = asyncio.create_task(place.sign_in())
        await held.is_reached.wait()
        async with place.world.at("192.0.2.1") as elsewhere, checking_too(passwords, place.user.secret):
            assert (await elsewhere.post("/oauth/token", data=place.user.form())).status_code == 200
        held.may_go_on.set()
        assert (await first).status_code == 200
    assert (await place.sign_in()).status_code == 200


@asynccontextmanager
async def checking_too(passwords: Any, secret: str) -> AsyncIterator[None]:
    """Have checks give a stronger hash to store."""
    check, stronger = passwords.check, await passwords.hash(secret)

    async def checked(*given: Any) -> tuple[bool, str | None]:
        is_right, _ = await check(*given)
        return is_right, stronger if is_right else None

    passwords.check = checked
    yield
    passwords.check = check


async def test_password_that_is_reset_while_its_owner_changes_it_stays_as_it_was_reset(place: Place) -> None:
    told = (await place.sign_in()).json()
    change = {"current": place.user.secret, "new": NEW}
    with checking(place.world) as held:
        headers = bearer(told["access_token"])
        changing = asyncio.create_task(place.world.http.post(f"{A}/password", json=change, headers=headers))
        await held.is_reached.wait()
        reset = await place.reset()
        held.may_go_on.set()
        assert (await changing).status_code == 400
    assert [(await place.sign_in(text)).status_code for text in (NEW, reset)] == [400, 200]


# --- while a transaction is open ------------------------------------------------------------------


class Held:
    """A database in which transactions wait."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def until_waiting(self, n_waiting: int, *others: asyncio.Task[Any]) -> None:
        """Return once so many transactions wait for a lock, or one of the others is done without having waited."""
        async with asyncio.timeout(20), self._database.engine.connect() as connection:
            while not any(other.done() for other in others):
                found = await connection.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE NOT granted")
                if found.scalar_one() >= n_waiting:
                    return
                await connection.rollback()
                await asyncio.sleep(0.01)


@asynccontextmanager
async def held_after_insertion(world: World, table: str) -> AsyncIterator[tuple[Held, asyncio.Event]]:
    """Hold every transaction right after it has inserted a row, until the event is set or the context ends."""
    database, may_go_on = Database(world.settings.main_url, CHANGES), asyncio.Event()
    function = (
        "CREATE FUNCTION wait_for_the_test() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN PERFORM pg_advisory_xact_lock_shared({_LOCK}); RETURN NEW; END $$"
    )
    trigger = f"CREATE TRIGGER held AFTER INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION wait_for_the_test()"
    async with database.engine.begin() as connection:
        await connection.exec_driver_sql(function)
        await connection.exec_driver_sql(trigger)
    async with database.engine.connect() as holder:
        await holder.exec_driver_sql(f"SELECT pg_advisory_lock({_LOCK})")

        async def let_go() -> None:
            await may_go_on.wait()
            await holder.exec_driver_sql(f"SELECT pg_advisory_unlock({_LOCK})")

        letting_go = asyncio.create_task(let_go())
        try:
            yield Held(database), may_go_on
        finally:
            may_go_on.set()
            await letting_go
    await database.close()


End = Callable[[Place, dict[str, Any]], Awaitable[object]]


async def _reset(place: Place, told: dict[str, Any]) -> None:
    await place.reset()


async def _revoke(place: Place, told: dict[str, Any]) -> None:
    form = {"token": told["refresh_token"]}
    assert (await place.world.http.post("/oauth/revoke", data=form, headers=place.owner)).status_code == 200


async def _spend_again(place: Place, told: dict[str, Any]) -> None:
    assert (await place.refresh(told)).status_code == 400


async def _remove(place: Place, told: dict[str, Any]) -> None:
    path = f"{A}/users/{place.user.subject}"
    assert (await place.world.http.delete(path, headers=place.owner)).status_code == 204


ENDS: dict[str, End] = {
    "a reset": _reset,
    "a revocation": _revoke,
    "a second use": _spend_again,
    "the account's removal": _remove,
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
async def test_refresh_in_flight_does_not_outlive_what_ends_its_sign_in(overlapping: Place, end: End) -> None:
    place = overlapping
    first = (await place.sign_in()).json()
    async with held_after_insertion(place.world, "refresh_tokens") as (held, may_go_on):
        refreshing = asyncio.create_task(place.refresh(first))
        await held.until_waiting(1, refreshing)
        ending = asyncio.ensure_future(end(place, first))
        await held.until_waiting(2, ending)
        may_go_on.set()
        answer = await refreshing
        await ending
    assert await place.acts(first) == 401
    if answer.status_code == 200:
        assert await place.acts(answer.json()) == 401
        assert (await place.refresh(answer.json())).status_code == 400


@pytest.mark.parametrize("end", [_reset, _remove], ids=["a reset", "the account's removal"])
async def test_sign_in_in_flight_does_not_outlive_the_password_that_it_proved(overlapping: Place, end: End) -> None:
    place = overlapping
    async with held_after_insertion(place.world, "refresh_tokens") as (held, may_go_on):
        signing_in = asyncio.create_task(place.sign_in())
        await held.until_waiting(1, signing_in)
        ending = asyncio.ensure_future(end(place, {}))
        await held.until_waiting(2, ending)
        may_go_on.set()
        answer = await signing_in
        await ending
    if answer.status_code == 200:
        assert await place.acts(answer.json()) == 401
        assert (await place.refresh(answer.json())).status_code == 400


async def test_second_use_and_a_reset_at_once_end_in_no_deadlock(overlapping: Place) -> None:
    """Each locks the sign-in and then says that something has changed; in another order the database would end one."""
    place = overlapping
    told = (await place.sign_in()).json()
    following = (await place.refresh(told)).json()
    async with held_after_insertion(place.world, "revoked_tokens") as (held, may_go_on):
        spending = asyncio.create_task(place.refresh(told))
        await held.until_waiting(1, spending)
        resetting = asyncio.create_task(place.reset())
        await held.until_waiting(2, resetting)
        may_go_on.set()
        assert (await spending).status_code == 400
        assert (await place.sign_in(await resetting)).status_code == 200
    assert (await place.refresh(following)).status_code == 400


async def test_api_key_that_is_rotated_while_it_is_changed_keeps_its_new_secret(overlapping: Place) -> None:
    """A change writes all of a key that can change; it is not to bring the old secret back."""
    place, keys = overlapping, overlapping.world.gateway.api_keys
    owner = await place.world.principal(place.world.owners["acme"])
    key, old = await keys.add(owner, "k", frozenset({Permission.AUDIT_READ}))
    async with held_after_insertion(place.world, "audit_records") as (held, may_go_on):
        rotating = asyncio.create_task(keys.rotate(owner, key.key_id, grace=timedelta()))
        await held.until_waiting(1, rotating)
        changing = asyncio.create_task(keys.change(owner, key.key_id, is_enabled=True))
        await held.until_waiting(2, changing)
        may_go_on.set()
        _, new = await rotating
        await changing
    found = [await place.world.http.get(EVENTS, headers={"x-api-key": text}) for text in (old, new)]
    assert [answer.status_code for answer in found] == [401, 200]
