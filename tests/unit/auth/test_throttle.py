"""Failed sign-ins are counted in the database, before anything is hashed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from builders.clocks import StoppedClock
from maas_gateway.accounts import store as accounts
from maas_gateway.accounts.user import User
from maas_gateway.auth import store
from maas_gateway.auth.attempts import ACCOUNT, ADDRESS, MAX_REMEMBERED, OWN, PAIR, SITE, keys_of
from maas_gateway.auth.tables import SIGN_IN_ADDRESSES, SIGN_IN_ATTEMPTS
from maas_gateway.auth.throttle import HOLD_S, MAX_HELD, SignInThrottle, forget_old
from maas_gateway.database.engine import Database
from maas_gateway.database.metadata import CHANGES, METADATA, load_tables
from maas_gateway.database.unscoped import read_all, write_all
from maas_gateway.errors import Overloaded, TooManyAttempts
from maas_gateway.identifiers import SubjectId, TenantId, new_id
from maas_gateway.tenants import store as tenants
from maas_gateway.tenants.tenant import Tenant, TenantState

pytestmark = [pytest.mark.anyio, pytest.mark.thorough]

HERE, ELSEWHERE = "192.0.2.1", "198.51.100.7"
ADA = "user ada@acme"
TENANT, SUBJECT = TenantId(new_id()), SubjectId(new_id())


class Place:
    """A database, and throttles of as many processes as a test asks for."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = StoppedClock()
        self.n_held = 0
        self.ticket = 0.99
        self.throttle = self.process()

    def process(self, max_at_once: int = 33) -> SignInThrottle:
        return SignInThrottle(
            self.database, self.clock, max_at_once=max_at_once, pause=self.pause, draw=lambda _: self.ticket
        )

    async def pause(self, seconds: float) -> None:
        self.n_held += 1
        await asyncio.sleep(0)
        assert HOLD_S <= seconds < 2 * HOLD_S

    async def fail(self, account: str = ADA, address: str = HERE, *, times: int = 1) -> None:
        for _ in range(times):
            await self.throttle.failed(account, address)

    async def succeed(self, account: str = ADA, address: str = HERE) -> None:
        async with self.throttle.attempt(account, address) as attempt:
            await self.throttle.succeeded(attempt, TENANT, SUBJECT)

    async def refused_s(self, account: str = ADA, address: str = HERE, by: SignInThrottle | None = None) -> float:
        with pytest.raises(TooManyAttempts) as refusal:
            await (by or self.throttle).failed(account, address)
        assert refusal.value.retry_after_s is not None
        return refusal.value.retry_after_s

    async def n_failed(self, account: str = ADA, address: str = HERE) -> list[int]:
        """Return what is counted under the pair, the account and the address."""
        keys = keys_of(account, address)
        found, _ = await store.attempts(self.database, keys)
        return [found[key].n_failed if key in found else 0 for key in (keys.pair, keys.account, keys.address)]

    async def told(self, account: str = ADA, address: str = HERE) -> tuple[type | None, float | None]:
        """Try a wrong secret; return what one is told: nothing, or a refusal and how long to wait."""
        try:
            await self.throttle.failed(account, address)
        except (TooManyAttempts, Overloaded) as refusal:
            return type(refusal), refusal.retry_after_s
        return None, None


@asynccontextmanager
async def a_place(url: str, folder: Path) -> AsyncIterator[Place]:
    load_tables()
    database = Database(f"sqlite+aiosqlite:///{folder}/main.sqlite" if url == "sqlite" else url, CHANGES)
    async with database.engine.begin() as connection:
        await connection.run_sync(METADATA.create_all)
    yield Place(database)
    await database.close()


@pytest.fixture
async def place(tmp_path: Path, database_url: str) -> AsyncIterator[Place]:
    async with a_place(database_url, tmp_path) as place:
        yield place


async def test_free_failures_cost_no_wait_and_each_further_one_doubles_it(place: Place) -> None:
    await place.fail(times=PAIR.n_free)
    for wait_s in (1, 2, 4):
        assert await place.refused_s() == pytest.approx(wait_s)
        place.clock.ahead_s += wait_s
        await place.fail()


async def test_refused_attempt_is_not_counted_and_makes_no_wait_longer(place: Place) -> None:
    await place.fail(times=PAIR.n_free)
    for _ in range(5):
        assert await place.refused_s() == 1
    assert await place.n_failed() == [5, 5, 5]
    place.clock.ahead_s += 1
    await place.fail()


async def test_counts_are_shared_by_processes_and_outlive_them(place: Place) -> None:
    await place.fail(times=PAIR.n_free)
    assert await place.refused_s(by=place.process()) == 1


async def test_success_forgets_what_failed_before_of_that_account(place: Place) -> None:
    for _ in range(3):
        await place.fail(times=PAIR.n_free - 1)
        await place.succeed()
        assert (await place.n_failed())[:2] == [0, 0]


async def test_success_takes_only_itself_off_the_address(place: Place) -> None:
    """Whoever has one account of its own does not get a fresh start at all others by signing in."""
    for n in range(4):
        await place.fail(f"user {n}@acme")
    await place.succeed()
    assert await place.n_failed() == [0, 0, 4]


async def test_account_past_its_free_failures_is_tried_from_where_a_ticket_wins_and_from_where_it_is_known(
    place: Place,
) -> None:
    await place.succeed(address=HERE)
    for n in range(ACCOUNT.n_free):
        await place.fail(address=f"203.0.113.{n}")
    assert 0 < await place.refused_s(address=ELSEWHERE) <= ACCOUNT.every_s
    await place.succeed(address=HERE)
    await place.refused_s(address="203.0.113.100")  # a known address's success ends no one else's wait
    place.ticket = 0.8
    await place.fail(address="203.0.113.101")
    await place.refused_s(address="203.0.113.102")  # one failure more takes more than that
    place.ticket = 0.0
    await place.succeed(address="203.0.113.103")
    place.ticket = 0.99
    await place.succeed(address="203.0.113.104")  # the success from a new address began the count anew


async def test_ticket_is_good_for_one_attempt_of_a_minute(place: Place) -> None:
    for n in range(ACCOUNT.n_free):
        await place.fail(address=f"203.0.113.{n}")
    place.ticket = 0.0
    await place.fail(address="2001:db8:0:1::1")
    left_s = await place.refused_s(address="2001:db8:0:2::1")
    place.clock.ahead_s += left_s
    await place.fail(address="2001:db8:0:2::1")


async def test_new_secret_begins_the_count_of_its_account_anew(place: Place) -> None:
    async with write_all(place.database) as session:
        await tenants.add(session, Tenant(TENANT, "acme", TenantState.ACTIVE, place.clock.now()))
        of = User(SUBJECT, TENANT, "ada", "a hash", True, place.clock.now())
        await accounts.add_user(session.within(TENANT), of)
    for n in range(ACCOUNT.n_free):
        await place.fail(address=f"203.0.113.{n}")
    await place.refused_s(address=ELSEWHERE)
    await place.throttle.forget(TENANT, SUBJECT)
    await place.fail(address=ELSEWHERE)
    assert await place.n_failed(address=ELSEWHERE) == [1, 1, 1]
    await place.throttle.forget(TENANT, SubjectId(new_id()))  # of nobody


@pytest.mark.parametrize("blocked", ["nothing", "the address", "the account", "all places"])
async def test_wrong_password_is_answered_alike_whoever_has_signed_in_from_there(place: Place, blocked: str) -> None:
    """Each is tried many times, with time going by: what is told, and how long to wait, is the same."""
    histories = []
    for name, is_known in (("ada", True), ("bob", False)):
        account, here = f"user {name}@acme", f"192.0.2.{len(name) + is_known}"
        place.throttle = place.process(max_at_once=3)
        if is_known:
            await place.succeed(account, here)
        for n in range({"the address": ADDRESS.n_free + 3, "the account": ACCOUNT.n_free}.get(blocked, 0)):
            by = (f"user u{n}@acme", here) if blocked == "the address" else (account, f"203.0.113.{n}")
            await place.told(*by)
            place.clock.ahead_s += n >= ADDRESS.n_free and 2 ** (n - ADDRESS.n_free)
        async with AsyncExitStack() as stack:
            for n in range(2 if blocked == "all places" else 0):
                await stack.enter_async_context(place.throttle.attempt(f"user {name}{n}", f"198.51.100.{n}"))
            history = []
            for step_s in (0, 0, 0, 1, 0, 3, 0, 9, 0, 0, 0, 27, 0, 0):
                place.clock.ahead_s += step_s
                history.append(await place.told(account, here))
                history.append(await place.told(f"user somebody else than {name}", here))
        histories.append(history)
        place.clock.ahead_s += 7_200 - place.clock.ahead_s % 7_200
    assert histories[0] == histories[1]
    assert (len(set(histories[0])) > 1) or blocked == "all places"


async def test_refusal_after_a_check_comes_no_later_than_one_without(place: Place) -> None:
    """It is held from when the attempt came, so that the time in which a password is hashed is not seen."""
    held_s: list[float] = []

    async def pause(seconds: float) -> None:
        held_s.append(seconds)

    await place.succeed()
    for n in range(ACCOUNT.n_free):
        await place.fail(address=f"203.0.113.{n}")
    throttle = SignInThrottle(place.database, place.clock, max_at_once=3, pause=pause, draw=lambda _: 0.99)
    for _ in range(OWN.n_free):
        with pytest.raises(TooManyAttempts):
            async with throttle.attempt(ADA, HERE):
                place.clock.ahead_s += 1
    assert all(-1e-6 <= seconds < HOLD_S for seconds in held_s)
    assert sum(held_s) > 0


async def test_own_failures_at_a_known_address_make_wait_there_also_while_others_do(place: Place) -> None:
    """Else whoever has others' failures counted could guess where the account is known for as long as it takes."""
    await place.succeed()
    for n in range(ACCOUNT.n_free):
        await place.fail(address=f"203.0.113.{n}")
    n_checked = 0
    for _ in range(20):
        with pytest.raises(TooManyAttempts):
            async with place.throttle.attempt(ADA, HERE):
                n_checked += 1
    assert n_checked == OWN.n_free
    place.clock.ahead_s += 1
    await place.succeed()
    assert await place.n_failed() == [0, ACCOUNT.n_free, 0]


async def test_success_leaves_others_counts_as_they_were(place: Place) -> None:
    """So that whoever comes and goes at an address makes nobody else there wait from anew."""
    await place.succeed(ADA)
    for n in range(ADDRESS.n_free):
        await place.fail(f"user u{n}@acme")
    place.clock.ahead_s += 1
    await place.succeed(ADA)
    await place.succeed("user new@acme")
    await place.fail("user one-more@acme")


async def test_places_are_kept_for_accounts_where_they_are_known(place: Place) -> None:
    await place.succeed(ADA, HERE)
    throttle = place.process(max_at_once=6)
    async with AsyncExitStack() as stack:
        for n in range(4):
            await stack.enter_async_context(throttle.attempt(f"user u{n}", f"203.0.113.{n}"))
        with pytest.raises(Overloaded):
            await throttle.failed("user one-more", ELSEWHERE)
        assert await place.n_failed("user one-more", ELSEWHERE) == [0, 0, 0]
        async with throttle.attempt(ADA, HERE) as attempt:
            await throttle.succeeded(attempt, TENANT, SUBJECT)
    await throttle.failed("user one-more", ELSEWHERE)


async def test_one_account_at_one_address_does_not_fill_the_queue_for_others(place: Place) -> None:
    throttle = place.process(max_at_once=4)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(throttle.attempt(ADA, HERE))
        waiting = [asyncio.create_task(throttle.failed(ADA, HERE)) for _ in range(6)]
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert all(isinstance(one.exception(), Overloaded) for one in done)
        await throttle.failed("user b@acme", ELSEWHERE)
        await throttle.succeeded(first, TENANT, SUBJECT)
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["NoneType"] * 3 + ["Overloaded"] * 3


async def test_site_that_tries_from_ever_new_networks_waits(place: Place) -> None:
    for n in range(SITE.n_free):
        await place.fail(f"user u{n}@acme", f"2001:db8:0:{n:x}::1")
    assert await place.refused_s("user one-more@acme", "2001:db8:0:ffff::1") == 1
    await place.fail("user one-more@acme", "2001:db8:1::1")


async def test_address_that_tries_many_accounts_waits_and_its_known_users_do_not(place: Place) -> None:
    await place.succeed(ADA)
    for n in range(ADDRESS.n_free):
        await place.fail(f"user u{n}@acme")
    assert await place.refused_s("user one-more@acme") == 1
    await place.succeed(ADA)
    await place.fail("user one-more@acme", ELSEWHERE)


async def test_crowd_of_guesses_at_once_gets_no_more_than_the_free_ones(place: Place) -> None:
    processes = [place.process(max_at_once=100) for _ in range(4)]
    n_looked_at = 0

    async def guess(throttle: SignInThrottle) -> None:
        nonlocal n_looked_at
        async with throttle.attempt(ADA, HERE):
            n_looked_at += 1
            await asyncio.sleep(0.01)

    answers = await asyncio.gather(*[guess(processes[n % 4]) for n in range(40)], return_exceptions=True)
    assert n_looked_at == PAIR.n_free
    assert sum(isinstance(answer, TooManyAttempts) for answer in answers) == 35


async def test_right_ones_at_once_are_not_taken_for_wrong_ones(place: Place) -> None:
    await asyncio.gather(*[place.succeed() for _ in range(30)])
    assert await place.n_failed() == [0, 0, 0]


async def test_accounts_and_addresses_crossed_by_many_processes_end_in_no_deadlock(place: Place) -> None:
    processes = [place.process(max_at_once=1_000) for _ in range(4)]
    accounts, addresses = ("user a", "user b", "user c"), (HERE, ELSEWHERE)
    tries = [
        processes[n % 4].failed(accounts[n % 3], addresses[n % 2]) if n % 5 else place.succeed(accounts[n % 3])
        for n in range(60)
    ]
    answers = await asyncio.gather(*tries, return_exceptions=True)
    assert {type(answer) for answer in answers} <= {type(None), TooManyAttempts}


async def test_attempt_that_nobody_could_look_at_is_taken_off_again(place: Place) -> None:
    for _ in range(20):
        with pytest.raises(Overloaded):
            async with place.throttle.attempt(ADA, HERE):
                raise Overloaded("too many")
    assert await place.n_failed() == [0, 0, 0]


async def test_attempt_whose_caller_has_gone_stays_counted(place: Place) -> None:
    async def go_away(is_let_in: asyncio.Event) -> None:
        async with place.throttle.attempt(ADA, HERE):
            is_let_in.set()
            await asyncio.sleep(60)

    for _ in range(PAIR.n_free):
        is_let_in = asyncio.Event()
        trying = asyncio.create_task(go_away(is_let_in))
        await is_let_in.wait()
        trying.cancel()
        await asyncio.wait([trying])
    await place.refused_s()


async def test_more_than_may_be_looked_at_at_once_are_refused_and_uncounted(place: Place) -> None:
    throttle = place.process(max_at_once=3)
    async with throttle.attempt(ADA, HERE), throttle.attempt("user b", HERE):
        with pytest.raises(Overloaded) as refusal:
            await throttle.failed("user c", ELSEWHERE)
    assert refusal.value.retry_after_s == 1
    assert await place.n_failed("user c", ELSEWHERE) == [0, 0, 0]
    await throttle.failed("user c", ELSEWHERE)


async def test_repeated_refusal_asks_no_database(place: Place) -> None:
    await place.fail(times=PAIR.n_free)
    await place.refused_s()
    await place.database.close()
    before = place.database.engine.pool.status()
    for _ in range(50):
        await place.refused_s()
    assert place.database.engine.pool.status() == before


async def test_of_an_accounts_addresses_the_latest_are_known(place: Place) -> None:
    addresses = [f"203.0.113.{n}" for n in range(MAX_REMEMBERED + 1)]
    for address in addresses:
        place.clock.ahead_s += 1
        await place.succeed(address=address)
    known = [(await store.attempts(place.database, keys_of(ADA, address)))[1] for address in addresses]
    assert known == [False] + [True] * MAX_REMEMBERED


async def test_old_counts_and_addresses_are_forgotten(place: Place) -> None:
    await place.succeed()
    await place.fail("user eve@acme", times=PAIR.n_free)
    for ahead_s, n_counts, n_addresses in ((3_400, 3, 1), (300, 0, 1), (91 * 86_400, 0, 0)):
        place.clock.ahead_s += ahead_s
        await forget_old(place.database, place.clock)
        async with read_all(place.database) as session:
            assert await session.count(SIGN_IN_ATTEMPTS, SIGN_IN_ATTEMPTS.c.n_failed > 0) == n_counts
            assert await session.count(SIGN_IN_ADDRESSES) == n_addresses


async def test_count_of_an_hour_ago_begins_anew_before_it_is_swept(place: Place) -> None:
    await place.fail(times=PAIR.n_free)
    place.clock.ahead_s += 3_601
    await place.fail()
    assert await place.n_failed() == [1, 1, 1]


async def test_refusal_is_held_and_others_go_on_meanwhile(place: Place) -> None:
    held_s: set[float] = set()
    n_held, all_held, is_over = 0, asyncio.Event(), asyncio.Event()

    async def pause(seconds: float) -> None:
        nonlocal n_held
        n_held += 1
        held_s.add(seconds)
        if n_held == MAX_HELD:
            all_held.set()
        await is_over.wait()

    throttle = SignInThrottle(place.database, place.clock, max_at_once=2, pause=pause)
    await place.fail(times=PAIR.n_free)
    refused = [asyncio.create_task(throttle.failed(ADA, HERE)) for _ in range(MAX_HELD)]
    await all_held.wait()
    assert len(held_s) > 100, "a crowd must not come back as one"
    await throttle.failed("user b", ELSEWHERE)
    with pytest.raises(TooManyAttempts):
        await asyncio.wait_for(throttle.failed(ADA, HERE), 5)  # one more than are held
    assert not any(one.done() for one in refused)
    is_over.set()
    answers = await asyncio.gather(*refused, return_exceptions=True)
    assert {type(answer) for answer in answers} <= {TooManyAttempts, Overloaded}


async def test_what_fails_within_the_free_ones_is_not_held(place: Place) -> None:
    await place.fail(times=PAIR.n_free)
    assert place.n_held == 0
    await place.refused_s()
    assert place.n_held == 1
