"""Sign-in under attack: what guessers learn, how long they wait, and that nobody else is kept out by them."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from builders.clocks import StoppedClock
from builders.gateways import POSTGRES_SLOWLY, Account, World, bearer, joined_gateway, running_gateway
from builders.logs import Lines
from maas_gateway.auth.throttle import HOLD_S

pytestmark = pytest.mark.anyio

A = "/admin/v1"
HERE, ELSEWHERE, FAR = "192.0.2.1", "198.51.100.7", "2001:db8::1"
REAL = {"memory_kib": 19_456, "passes": 2}


@pytest.fixture
async def world(tmp_path: Path, database_url: str) -> AsyncIterator[World]:
    async with running_gateway(tmp_path, database_url) as world:
        await world.tenant("acme")
        yield world


def stopped(*worlds: World) -> StoppedClock:
    """Have the waits of these processes go by one clock, which only the test moves; no refusal is held, no ticket wins."""
    clock = StoppedClock()
    for world in worlds:
        throttle = world.gateway.sign_in._throttle
        throttle._clock, throttle._pause, throttle._draw = clock, _at_once, lambda _: 0.99
    return clock


async def _at_once(_: float) -> None:
    return


@pytest.fixture
def clock(world: World) -> StoppedClock:
    return stopped(world)


async def sign_in(
    http: httpx.AsyncClient, account: Account, secret: str | None = None, name: str | None = None
) -> httpx.Response:
    form = account.form()
    if secret is not None:
        form["client_secret" if account.is_service else "password"] = secret
    if name is not None:
        form["client_id" if account.is_service else "username"] = name
    return await http.post("/oauth/token", data=form)


def told(answer: httpx.Response) -> tuple[Any, ...]:
    """Return all that an answer tells, but for the request's id and how many seconds are left."""
    headers = {name: value for name, value in answer.headers.items() if name not in {"x-request-id", "retry-after"}}
    return answer.status_code, answer.content, headers, "retry-after" in answer.headers


async def test_guesser_waits_longer_and_longer_and_the_user_elsewhere_does_not(
    world: World, clock: StoppedClock
) -> None:
    user = await world.user("acme", "ada", "auditor")
    async with world.at(HERE) as here, world.at(ELSEWHERE) as elsewhere:
        statuses = [(await sign_in(here, user, "wrong")).status_code for _ in range(8)]
        assert statuses == [400] * 5 + [429] * 3
        refused = await sign_in(here, user)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert refused.json() == {
            "error": "temporarily_unavailable",
            "error_description": "too many failed sign-ins; wait before the next",
        }
        assert refused.headers["cache-control"] == "no-store"
        assert (await sign_in(elsewhere, user)).status_code == 200
        clock.ahead_s += 1
        assert (await sign_in(here, user, "wrong")).status_code == 400
        assert int((await sign_in(here, user)).headers["retry-after"]) == 2
        clock.ahead_s += 2
        assert (await sign_in(here, user)).status_code == 200
        assert [(await sign_in(here, user, "wrong")).status_code for _ in range(6)] == [400] * 5 + [429]


async def test_counts_hold_in_every_process_and_after_a_restart(tmp_path: Path, database_url: str) -> None:
    async with running_gateway(tmp_path, database_url) as world:
        user = await world.tenant("acme")
        async with joined_gateway(world) as other, world.at(HERE) as here, other.at(HERE) as there:
            clock = stopped(world, other)
            statuses = [(await sign_in(http, user, "wrong")).status_code for http in (here, there) * 3]
            assert statuses == [400] * 5 + [429]
        settings, operator = world.settings, world.operator
    async with joined_gateway(settings, operator) as again, again.at(HERE) as http:
        again.gateway.sign_in._throttle._clock = clock
        assert (await sign_in(http, user)).status_code == 429
        clock.ahead_s += 1
        assert (await sign_in(http, user, "wrong")).status_code == 400
        assert int((await sign_in(http, user, "wrong")).headers["retry-after"]) == 2


async def test_nobody_elsewhere_keeps_a_user_out(world: World, clock: StoppedClock) -> None:
    """A hundred addresses guess at one account: where its user has signed in before, it still does."""
    user = await world.user("acme", "ada", "auditor")
    async with world.at(HERE) as here:
        assert (await sign_in(here, user)).status_code == 200
        n_refused = 0
        for n in range(100):
            async with world.at(f"203.0.113.{n}") as guesser:
                n_refused += (await sign_in(guesser, user, "wrong")).status_code == 429
        assert n_refused == 90
        assert (await sign_in(here, user)).status_code == 200
    async with world.at(ELSEWHERE) as elsewhere:
        refused = await sign_in(elsewhere, user)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) <= 60
        clock.ahead_s += 61
        assert (await sign_in(elsewhere, user)).status_code == 200


async def test_user_whom_nobody_knows_there_gets_in_while_twenty_networks_guess_at_the_account(tmp_path: Path) -> None:
    """They are of one site, which takes part as one, however many networks of its own it tries from."""
    async with running_gateway(tmp_path) as world, AsyncExitStack() as stack:
        await world.tenant("acme")
        user = await world.user("acme", "ada", "auditor")
        clock = stopped(world)
        draws = random.Random(7)
        tickets: dict[str, float] = {}
        world.gateway.sign_in._throttle._draw = lambda text: tickets.setdefault(text, draws.random())
        guessers = [await stack.enter_async_context(world.at(f"2001:db8:0:{n:x}::1")) for n in range(20)]
        elsewhere = await stack.enter_async_context(world.at(ELSEWHERE))
        n_guesses, took_s = 0, []
        for step in range(60):
            clock.ahead_s += 20
            for guesser in guessers:
                n_guesses += (await sign_in(guesser, user, "wrong")).status_code == 400
            if step > 10 and (await sign_in(elsewhere, user)).status_code == 200:
                took_s.append(clock.ahead_s)
                break
        assert took_s, "1,000 seconds are not enough"
        assert n_guesses <= 10 + 20 + clock.ahead_s / 60


async def test_reset_has_a_user_sign_in_although_others_guess_at_the_account(world: World, clock: StoppedClock) -> None:
    user, owner = await world.user("acme", "ada", "auditor"), await world.headers(world.owners["acme"])
    for n in range(12):
        async with world.at(f"203.0.113.{n}") as guesser:
            await sign_in(guesser, user, "wrong")
    async with world.at(ELSEWHERE) as elsewhere:
        assert (await sign_in(elsewhere, user)).status_code == 429
        told = await world.http.post(f"{A}/users/{user.subject}:reset-password", headers=owner)
        assert (await sign_in(elsewhere, user, told.json()["password"])).status_code == 200


async def test_invited_user_does_not_wait_for_who_guessed_before(world: World, clock: StoppedClock) -> None:
    for n in range(12):
        async with world.at(f"203.0.113.{n}") as guesser:
            await sign_in(guesser, world.owners["acme"], "wrong", "ada@acme")
    user = await world.user("acme", "ada", "auditor")
    async with world.at(ELSEWHERE) as elsewhere:
        assert (await sign_in(elsewhere, user)).status_code == 200


async def test_wrong_password_at_an_address_that_waits_does_not_tell_who_has_signed_in_there(
    world: World, clock: StoppedClock
) -> None:
    known, other = await world.user("acme", "ada", "auditor"), await world.user("acme", "bob", "auditor")
    async with world.at(HERE) as here:
        assert (await sign_in(here, known)).status_code == 200
        for n in range(32):
            await sign_in(here, known, "wrong", f"user{n}@acme")
        answers = [
            await sign_in(here, known, "wrong", name)
            for name in (known.name, "nobody@acme", other.name, known.name, "no body")
        ]
        assert [(told(answer), answer.headers["retry-after"]) for answer in answers] == 5 * [
            (told(answers[1]), answers[1].headers["retry-after"])
        ]
        assert answers[0].status_code == 429
        assert (await sign_in(here, known)).status_code == 200, "a right one counts"


async def test_user_where_it_is_known_signs_in_while_ever_new_networks_take_all_places(tmp_path: Path) -> None:
    """Each guess is the first of its name, its network and its site, so that none of them waits."""
    async with running_gateway(tmp_path) as world, AsyncExitStack() as stack:
        user = await world.tenant("acme")
        here = await stack.enter_async_context(world.at(HERE))
        assert (await sign_in(here, user)).status_code == 200
        world.gateway.sign_in._throttle._pause = _at_once
        passwords, may_go_on = world.gateway.sign_in._passwords, asyncio.Event()
        check = passwords.check

        async def slow(password: str, known_hash: str | None) -> tuple[bool, str | None]:
            if password == "wrong":
                await may_go_on.wait()
            return await check(password, known_hash)

        passwords.check = slow  # type: ignore[method-assign]
        clients = [await stack.enter_async_context(world.at(f"2001:db8:{n:x}::1")) for n in range(120)]
        guesses = [
            asyncio.create_task(sign_in(client, user, "wrong", f"user{n}@acme")) for n, client in enumerate(clients)
        ]
        await asyncio.wait(guesses, return_when=asyncio.FIRST_COMPLETED)
        answers = [await sign_in(here, user) for _ in range(3)]
        may_go_on.set()
        statuses = [(await guess).status_code for guess in guesses]
        assert [answer.status_code for answer in answers] == [200] * 3
        assert set(statuses) == {400, 503}


async def test_one_address_that_tries_many_accounts_is_stopped_and_its_users_are_not(
    world: World, clock: StoppedClock
) -> None:
    user, owner = await world.user("acme", "ada", "auditor"), world.owners["acme"]
    async with world.at(FAR) as far, world.at("2001:db8::ffff") as neighbour, world.at(ELSEWHERE) as elsewhere:
        assert (await sign_in(far, user)).status_code == 200
        statuses = [(await sign_in(far, owner, "wrong", f"user{n}@acme")).status_code for n in range(40)]
        assert statuses == [400] * 30 + [429] * 10
        assert (await sign_in(neighbour, owner, "wrong")).status_code == 429, "one network of IPv6 is one client's"
        assert (await sign_in(far, user)).status_code == 200
        assert (await sign_in(elsewhere, owner)).status_code == 200


async def test_service_accounts_right_secret_counts_however_many_wrong_ones_came(
    world: World, clock: StoppedClock
) -> None:
    service = await world.service("acme", "auditor")
    async with world.at(HERE) as here:
        statuses = [(await sign_in(here, service, "wrong")).status_code for _ in range(8)]
        assert statuses == [401] * 5 + [429] * 3
        assert (await sign_in(here, service)).status_code == 200
        assert (await sign_in(here, service, "wrong")).status_code == 429


async def test_client_named_like_a_user_costs_that_user_nothing(world: World, clock: StoppedClock) -> None:
    owner, service = world.owners["acme"], await world.service("acme")
    async with world.at(HERE) as here, world.at(ELSEWHERE) as elsewhere:
        for http in (here, elsewhere):
            for _ in range(6):
                await sign_in(http, service, "wrong", owner.name)
        assert (await sign_in(here, owner)).status_code == 200


async def test_waits_tell_nothing_of_who_exists(world: World, clock: StoppedClock) -> None:
    known, disabled = await world.user("acme", "grace"), await world.user("acme", "heidi")
    owner = await world.headers(world.owners["acme"])
    await world.http.patch(f"{A}/users/{disabled.subject}", json={"enabled": False}, headers=owner)
    await world.tenant("globex")
    operator = await world.headers(world.operator)
    assert (await world.http.post(f"{A}/tenants/globex:suspend", headers=operator)).status_code == 200
    histories = []
    for n, name in enumerate((known.name, disabled.name, "owner@globex", "nobody@acme", "x@none", "no name at all")):
        async with world.at(f"203.0.113.{n}") as http:
            histories.append([told(await sign_in(http, known, "wrong", name)) for _ in range(7)])
    assert [answer[0] for answer in histories[0]] == [400] * 5 + [429] * 2
    assert histories.count(histories[0]) == len(histories)


async def test_own_password_cannot_be_guessed_with_a_stolen_token(world: World, clock: StoppedClock) -> None:
    user = await world.user("acme", "ada", "auditor")
    async with world.at(HERE) as thief:
        headers = bearer((await sign_in(thief, user)).json()["access_token"])
        change = {"current": "wrong", "new": "a new password of mine"}
        answers = [await thief.post(f"{A}/password", json=change, headers=headers) for _ in range(7)]
        assert [answer.status_code for answer in answers] == [400] * 5 + [429] * 2
        refused = answers[-1]
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["type"] == "/problems/too-many-attempts"
        change["current"] = user.secret
        assert (await thief.post(f"{A}/password", json=change, headers=headers)).status_code == 429
        async with world.at(ELSEWHERE) as elsewhere:
            assert (await elsewhere.post(f"{A}/password", json=change, headers=headers)).status_code == 204
            assert (await sign_in(elsewhere, user, change["new"])).status_code == 200


async def test_refusals_are_recorded_without_names_and_addresses_that_strangers_made_up(
    world: World, clock: StoppedClock
) -> None:
    owner = world.owners["acme"]
    async with world.at(HERE) as here:
        for _ in range(8):
            await sign_in(here, owner, "hunter2", "made-up@acme")
    await world.gateway.audit.flush()
    operator = await world.headers(world.operator)
    events = (await world.http.get(f"{A}/audit/events", headers=operator)).json()["events"]
    refused = [event for event in events if event["kind"] == "token.refused"]
    n_by_reason: dict[str, int] = {}
    for event in refused:
        n_by_reason[event["reason"]] = n_by_reason.get(event["reason"], 0) + event.get("n_times", 1)
    assert n_by_reason == {"invalid_grant": 5, "temporarily_unavailable": 3}
    assert not any(text in str(events) for text in ("made-up", HERE, "hunter2"))


async def test_what_is_remembered_of_an_account_goes_with_it(world: World, clock: StoppedClock) -> None:
    user, owner = await world.user("acme", "ada", "auditor"), world.owners["acme"]
    async with world.at(HERE) as here:
        assert (await sign_in(here, user)).status_code == 200
        headers = await world.headers(owner)
        assert (await world.http.delete(f"{A}/users/{user.subject}", headers=headers)).status_code == 204
        again = await world.user("acme", "ada", "auditor")
        for n in range(12):
            async with world.at(f"203.0.113.{n}") as guesser:
                await sign_in(guesser, again, "wrong")
        assert (await sign_in(here, again)).status_code == 429


@POSTGRES_SLOWLY
@pytest.mark.parametrize("n_bytes", [1, 64, 128, 1_024, 1_025, 4_096, 1 << 20])
async def test_password_of_any_length_is_answered_and_none_is_shortened(world: World, n_bytes: int) -> None:
    user = await world.user("acme", "ada", "auditor")
    headers, new = await world.headers(user), "x" * n_bytes
    change = {"current": user.secret, "new": new}
    answer = await world.http.post(f"{A}/password", json=change, headers=headers)
    is_taken = 12 <= n_bytes <= 1_024
    expected = {1: 400, 1_025: 400, 4_096: 400, 1 << 20: 413}.get(n_bytes, 204)
    assert answer.status_code == expected, answer.text
    async with world.at(HERE) as here:
        assert ((await sign_in(here, user, new)).status_code == 200) == is_taken
        for other in (new[:-1], new + "x"):
            assert (await sign_in(here, user, other)).status_code in {400, 413}
    async with world.at(ELSEWHERE) as elsewhere:
        assert (await sign_in(elsewhere, user)).status_code == (400 if is_taken else 200)


@POSTGRES_SLOWLY
@pytest.mark.parametrize(
    ("new", "typed"),
    [
        pytest.param("p\x00ssword and more", "p\x00ssword and more", id="a NUL"),
        pytest.param("caf\u00e9 au lait!", "cafe\u0301 au lait!", id="an accent that is typed apart"),
        pytest.param("\U0001f600" * 4, "\U0001f600" * 4, id="emoji"),
        pytest.param("  twelve bytes  ", "  twelve bytes  ", id="spaces around"),
    ],
)
async def test_password_of_any_letters_is_taken_whole(world: World, new: str, typed: str) -> None:
    user = await world.user("acme", "ada", "auditor")
    change = {"current": user.secret, "new": new}
    answer = await world.http.post(f"{A}/password", json=change, headers=await world.headers(user))
    assert answer.status_code == 204, answer.text
    assert (await sign_in(world.http, user, typed)).status_code == 200
    for wrong in (new.strip()[:-1], new.replace("\x00", ""), new.split("\x00", maxsplit=1)[0], new + "\x00"):
        if wrong != new:
            async with world.at(ELSEWHERE) as elsewhere:
                assert (await sign_in(elsewhere, user, wrong)).status_code == 400


async def test_refused_guess_is_answered_late_and_a_sign_in_meanwhile_is_not(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world, world.at(HERE) as here, world.at(ELSEWHERE) as elsewhere:
        user = await world.tenant("acme")
        stopped(world)
        world.gateway.sign_in._throttle._pause = asyncio.sleep
        for _ in range(5):
            await sign_in(here, user, "wrong")
        began = time.perf_counter()
        guesses = [asyncio.create_task(sign_in(here, user, "wrong")) for _ in range(50)]
        assert (await sign_in(elsewhere, user)).status_code == 200
        assert not any(guess.done() for guess in guesses)
        assert {(await guess).status_code for guess in guesses} == {429}
        assert time.perf_counter() - began >= HOLD_S


async def test_half_a_letter_in_a_password_is_no_fault_of_ours(world: World) -> None:
    headers = {**await world.headers(world.owners["acme"]), "content-type": "application/json"}
    body = b'{"current": "\\ud800", "new": "twelve bytes \\udc00"}'
    assert (await world.http.post(f"{A}/password", content=body, headers=headers)).status_code == 400


async def test_no_route_tells_strangers_which_accounts_exist(world: World) -> None:
    """There is no registration and no reset for who is not signed in; a reset by an owner is told to the owner."""
    user = await world.user("acme", "ada", "auditor")
    answers = []
    for subject in (user.subject, "00000000-0000-4000-8000-000000000000"):
        answer = await world.http.post(f"{A}/users/{subject}:reset-password")
        answers.append((answer.status_code, answer.json()["detail"]))
        assert answer.status_code == 401
    assert answers[0] == answers[1]
    assert (await world.http.post(f"{A}/users", json={"name": "ada"})).status_code == 401


async def test_hash_is_strengthened_when_its_user_signs_in(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, passwords={"memory_kib": 8_192, "passes": 1}) as world:
        user = await world.tenant("acme")
        settings = world.settings.model_copy(
            update={"passwords": world.settings.passwords.model_copy(update={"memory_kib": 9_216, "passes": 2})}
        )
        async with joined_gateway(settings, world.operator) as later, later.at(HERE) as http:
            for _ in range(2):
                assert (await sign_in(http, user)).status_code == 200
            checked: list[tuple[bool, str | None]] = []
            passwords, check = later.gateway.sign_in._passwords, later.gateway.sign_in._passwords.check

            async def watched(*given: Any) -> tuple[bool, str | None]:
                checked.append(await check(*given))
                return checked[-1]

            passwords.check = watched  # type: ignore[method-assign]
            assert (await sign_in(http, user)).status_code == 200
            assert checked == [(True, None)], "the first sign-in has replaced it"
        async with world.at(ELSEWHERE) as http:
            assert (await sign_in(http, user)).status_code == 200


async def test_neither_passwords_nor_made_up_names_nor_addresses_are_logged(tmp_path: Path, lines: Lines) -> None:
    async with running_gateway(tmp_path) as world:
        owner = await world.tenant("acme")
        async with world.at(HERE) as here:
            assert (await sign_in(here, world.operator)).status_code == 200
            for _ in range(7):
                await sign_in(here, owner, "hunter2", "made-up@acme")
    text = lines.getvalue()
    assert not any(said in text for said in (world.operator.secret, owner.secret, "hunter2", "made-up", HERE))


@pytest.mark.parametrize(
    "n_tries", [pytest.param(25, marks=pytest.mark.thorough), pytest.param(200, marks=pytest.mark.slow)]
)
async def test_sign_in_takes_the_same_time_whoever_it_is_not(tmp_path: Path, n_tries: int) -> None:
    """Of so many tries each, taken in turn so that whatever else this machine does is everybody's.

    The medians of the processor's time, which is this process's own, are within a tenth of each other; that of a name
    that nobody can have, which the database is not asked for, within a fifth. The time that goes by is several times
    that on a machine with other work and varies by more: its lowest tenths are within a half. A lookup alone would be a
    fifteenth of either. Of three rounds, so that other work does not decide, one is like that.
    """
    async with running_gateway(tmp_path, passwords=REAL) as world:
        await world.tenants("acme", "globex")
        known, disabled = await world.user("acme", "grace"), await world.user("acme", "heidi")
        owner, operator = await world.headers(world.owners["acme"]), await world.headers(world.operator)
        clock = stopped(world)
        await world.http.patch(f"{A}/users/{disabled.subject}", json={"enabled": False}, headers=owner)
        await world.http.post(f"{A}/tenants/globex:suspend", headers=operator)
        names = (known.name, disabled.name, "owner@globex", "nobody@acme", "nobody@none", "no body@acme")
        told: list[tuple[str, str, dict[str, float]]] = []
        for which_round in range(3):
            taken_s: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
            for n in range(n_tries + 1):
                for m, name in enumerate(names):
                    async with world.at(f"10.{m}.{which_round}.{n}") as http:
                        clock.ahead_s += 61
                        began_s = time.process_time(), time.perf_counter()
                        answer = await sign_in(http, known, "wrong", name)
                        taken_s[name].append((time.process_time() - began_s[0], time.perf_counter() - began_s[1]))
                        assert answer.status_code == 400
            told = _apart(taken_s, like=known.name, by_more={"no body@acme"})
            if not told:
                break
        assert not told


def _apart(
    taken_s: dict[str, list[tuple[float, float]]], *, like: str, by_more: set[str]
) -> list[tuple[str, str, dict[str, float]]]:
    """Return the names that can be told from one by how long their tries took, on the processor or by the clock."""
    told = []
    for which, part in (("processor", 0.5), ("clock", 0.1)):
        found = {
            name: sorted(each[which == "clock"] for each in taken[1:])[int((len(taken) - 1) * part)]
            for name, taken in taken_s.items()
        }
        for name, took_s in found.items():
            bound = 1.5 if which == "clock" else 1.2 if name in by_more else 1.1
            if not 1 / bound < took_s / found[like] < bound:
                told.append((name, which, found))
    return told
