"""What it costs to know who asks, whether they may, and within which limits; and whether it grows with the tenants.

The share of a request's time is the time of exactly those calls, made in this process for a token that is remembered
and a caller with five limits and a lifetime budget, against what the served gateway takes for a whole prediction of the
same caller on one busy core. Growth is the median time to an answer of two gateways that run at once and are asked in
turn: one of a few tenants, one of 10,000 with 100,000 role bindings.
"""

import asyncio
import shutil
import statistics
import time
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from gateway_vs_bare import PATH, body_of, check_answer, token
from load import Answered, Request, generator, put_on
from place import MODEL, Place
from report import Comparison
from running import gateway
from sqlalchemy import insert

from maas_gateway.accounts.tables import ROLE_BINDINGS, SERVICE_ACCOUNTS
from maas_gateway.clock import Deadline, SystemClock
from maas_gateway.gateway import Gateway, open_gateway
from maas_gateway.identifiers import ModelRef
from maas_gateway.permissions import Permission
from maas_gateway.place import open_databases, prepare
from maas_gateway.policy.authorize import authorize_model
from maas_gateway.principal import Principal
from maas_gateway.quotas import store as quotas
from maas_gateway.quotas.quota import Quota, QuotaRule, Rate
from maas_gateway.settings import load_settings
from maas_gateway.tenants.tables import TENANTS
from maas_gateway.web.authentication import authenticate

N_TENANTS: Final = 10_000
N_BINDINGS: Final = 100_000
CLIENTS: Final = 32
ROUNDS: Final = 9
ROUND_S: Final = 2
SHARE_TARGET: Final = 0.10
GROWTH_TARGET: Final = 1.05
DECISION_TARGET_US: Final = 2.0

_WARM_UP_S: Final = 1
_CALLS: Final = 20_000
_REPEATS: Final = 7
_ENDLESS: Final = Rate(2**40, 60)
_BATCH: Final = 5_000


def measure(place: Place, folder: Path) -> list[Comparison]:
    """Return the share of a request's time, the decision's own, and how the median grows."""
    limited = _copy(place, folder / "limited")
    asyncio.run(_limit(limited))
    many = _copy(place, folder / "many")
    asyncio.run(_fill(many))
    with ExitStack() as stack:
        (folder / "of-limited").mkdir()
        served = stack.enter_context(gateway(limited, folder / "of-limited"))
        request = Request(PATH, body_of(limited), token(served, limited))
        check_answer(served, request, place.expected)
        put_on(served.port, request, n_clients=CLIENTS, duration_s=_WARM_UP_S, folder=folder)
        rounds = []
        for _ in range(ROUNDS):
            before_s = served.cpu_s()
            answered = put_on(served.port, request, n_clients=CLIENTS, duration_s=ROUND_S, folder=folder)
            rounds.append((served.cpu_s() - before_s) / answered.n_requests * 1e6)
    whole_us = statistics.median(rounds)
    part_us, decision_us = asyncio.run(_cost(limited))
    return [*_share(part_us, decision_us, whole_us), *_growth(place, many, folder)]


def _copy(place: Place, folder: Path) -> Place:
    shutil.copytree(place.data_dir, folder)
    return replace(place, data_dir=folder)


async def _limit(place: Place) -> None:
    """Write every kind of quota for the caller, too wide to be reached."""
    settings = load_settings(over={"data_dir": place.data_dir})
    main, key_store = open_databases(settings)
    async with open_gateway(settings) as running:
        signed_in = await running.sign_in.by_secret(place.client_id, place.client_secret, address="")
    subject = signed_in.principal.subject
    wide = Quota(requests=_ENDLESS, rows=_ENDLESS, n_bytes=_ENDLESS)
    rules = [
        QuotaRule(uuid.uuid4(), place.tenant, replace(wide, rows=None, n_bytes=None)),
        QuotaRule(uuid.uuid4(), place.tenant, replace(wide, n_bytes=None), subject),
        QuotaRule(uuid.uuid4(), place.tenant, Quota(concurrent=10_000), None, MODEL),
        QuotaRule(uuid.uuid4(), place.tenant, Quota(requests=_ENDLESS, lifetime_rows=2**40), subject, MODEL),
    ]
    async with main.write(place.tenant) as session:
        for rule in rules:
            await quotas.add(session, rule)
    await main.close()
    await key_store.close()


async def _fill(place: Place) -> None:
    """Add tenants, and service accounts with role bindings of their own and of the caller's tenant."""
    main, key_store = open_databases(load_settings(over={"data_dir": place.data_dir}))
    now = SystemClock().now()
    tenants = [
        {"id": uuid.uuid4(), "slug": f"tenant-{n}", "state": "active", "created_at": now} for n in range(N_TENANTS)
    ]
    owners = [tenants[n]["id"] for n in range(N_TENANTS) for _ in range(N_BINDINGS // N_TENANTS)]
    subjects = [uuid.uuid4() for _ in owners]
    accounts = [
        {
            "id": subject,
            "tenant_id": owner,
            "client_id": f"sa-{subject.hex[:20]}",
            "name": subject.hex,
            "secret_digest": "0" * 64,
            "is_enabled": True,
            "created_at": now,
        }
        for owner, subject in zip(owners, subjects, strict=True)
    ]
    bindings = [
        {"id": uuid.uuid4(), "tenant_id": owner, "subject_id": subject, "role": "invoker", "model": ""}
        for owner, subject in zip(owners, subjects, strict=True)
    ]
    async with main.connection(is_write=True) as connection:
        for table, rows in ((TENANTS, tenants), (SERVICE_ACCOUNTS, accounts), (ROLE_BINDINGS, bindings)):
            for start in range(0, len(rows), _BATCH):
                batch: list[Mapping[str, Any]] = rows[start : start + _BATCH]
                await connection.execute(insert(table), batch)
    await main.close()
    await key_store.close()
    await prepare(load_settings(over={"data_dir": place.data_dir}), makes_root_key=False)  # a ring for each: 2 minutes


async def _cost(place: Place) -> tuple[float, float]:
    """Return the microseconds of all that access costs a request, and of the decision alone."""
    settings = load_settings(over={"data_dir": place.data_dir})
    async with open_gateway(settings) as running:
        signed_in = await running.sign_in.by_secret(place.client_id, place.client_secret, address="")
        headers = [
            (b"host", b"127.0.0.1:8080"),
            (b"content-type", b"application/json"),
            (b"authorization", b"Bearer " + signed_in.token.encode()),
            (b"content-length", b"400"),
        ]
        principal = await authenticate(running.authenticator, headers, takes_basic=True)
        wholes, decisions = [], []
        for _ in range(_REPEATS):
            wholes.append(await _access(running, headers))
            decisions.append(_decision(principal))
    return min(wholes), min(decisions)


async def _access(running: Gateway, headers: list[tuple[bytes, bytes]]) -> float:
    """Return the microseconds that a request spends in authentication, authorisation, quotas and metering."""
    predict, ref = running.predict, ModelRef(MODEL)
    terms_book, limiter, turnstile = predict._terms, predict._limiter, predict._turnstile  # noqa: SLF001
    deadline = Deadline.after(600)
    began_s = time.perf_counter()
    for _ in range(_CALLS):
        principal = await authenticate(running.authenticator, headers, takes_basic=True)
        authorize_model(principal, Permission.MODEL_PREDICT, ref)
        terms = terms_book.kept(principal, ref.name) or await terms_book.find(principal, ref.name)
        await turnstile.enter(principal.tenant, deadline)
        assert terms.limits is not None
        admission = await limiter.enter(terms.limits, 400)
        await limiter.spend(admission, 1, 400)
        terms.meter.count(1, 1e-5)
        await limiter.leave(admission)
        turnstile.leave(principal.tenant)
    return (time.perf_counter() - began_s) / _CALLS * 1e6


def _decision(principal: Principal) -> float:
    """Return the microseconds of the decision alone."""
    ref = ModelRef(MODEL)
    began_s = time.perf_counter()
    for _ in range(_CALLS):
        authorize_model(principal, Permission.MODEL_PREDICT, ref)
    return (time.perf_counter() - began_s) / _CALLS * 1e6


def _share(part_us: float, decision_us: float, whole_us: float) -> list[Comparison]:
    part = f"Who asks, whether they may, within which limits (six limits, a token that is remembered); load by {generator()}"
    return [
        Comparison(
            part,
            f"all of it, against a request's processor time at {CLIENTS} clients",
            f"{part_us:.1f} µs",
            f"{whole_us:.0f} µs",
            part_us / whole_us,
            "of a request",
            at_most=SHARE_TARGET,
        ),
        Comparison(
            part,
            "the decision alone",
            f"{decision_us:.2f} µs",
            f"{DECISION_TARGET_US:g} µs allowed",
            decision_us / DECISION_TARGET_US,
            "of what is allowed",
            at_most=1.0,
        ),
    ]


def _growth(few: Place, many: Place, folder: Path) -> list[Comparison]:
    """Return how the median time to an answer grows with tenants and bindings."""
    with ExitStack() as stack:
        servers = {}
        for name, place in (("few", few), ("many", many)):
            (folder / f"of-{name}").mkdir()
            server = stack.enter_context(gateway(place, folder / f"of-{name}"))
            request = Request(PATH, body_of(place), token(server, place))
            check_answer(server, request, place.expected)
            put_on(server.port, request, n_clients=CLIENTS, duration_s=_WARM_UP_S, folder=folder)
            servers[name] = (server, request)
        found: dict[str, list[Answered]] = {"few": [], "many": []}
        for number in range(ROUNDS):
            for name in ("few", "many") if number % 2 else ("many", "few"):
                server, request = servers[name]
                found[name].append(put_on(server.port, request, n_clients=CLIENTS, duration_s=ROUND_S, folder=folder))
    ours, theirs = ([one.p50_us for one in found[name]] for name in ("many", "few"))
    return [
        Comparison.of_rounds(
            f"{N_TENANTS:,} tenants and {N_BINDINGS:,} role bindings, against two tenants; load by {generator()}",
            f"time to answer, median, {CLIENTS} clients",
            "µs",
            (ours, theirs),
            reads="of few",
            at_most=GROWTH_TARGET,
        )
    ]
