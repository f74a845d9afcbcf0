"""Rotating keys while predictions go on: how long it takes, how much they wait, whether any fails.

The tenant's ring wraps 10,000 data keys that belong to no artifact: rewrapping touches no artifact
anyway. A round is predictions before a rotation and then predictions within it: what is left of the
load when the rotation is over would be the gateway at rest, so such a run is refused. The access token
of the load is one and the same throughout: it outlives the rotation of the key that signed it.
"""

import asyncio
import statistics
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from gateway_vs_bare import PATH, body_of, check_answer, token
from load import Answered, Request, generator, put_on, try_on
from place import Place
from report import Comparison, PartFailed
from running import HOST, Running, gateway

from maas_gateway.client.failure import GatewayRefused
from maas_gateway.client.gateway import GatewayClient
from maas_gateway.clock import SystemClock
from maas_gateway.crypto.envelope import DataKey, wrap_data_key
from maas_gateway.keyring import store
from maas_gateway.keyring.key import Purpose
from maas_gateway.place import open_databases, open_keyring
from maas_gateway.settings import load_settings

N_DATA_KEYS: Final = 10_000
CLIENTS: Final = 32
QUIET_ROUNDS: Final = 3
ROUNDS: Final = 5
ROUND_S: Final = 3
EVERY_PURPOSE_S: Final = 20
ALLOWED_S: Final = 10.0
P99_TARGET: Final = 1.3
CUSTODIANS: Final = (Purpose.ARTIFACTS, Purpose.AUDIT)
OPERATORS: Final = (
    Purpose.TOKEN_SIGNING,
    Purpose.STATEMENTS,
    Purpose.AUDIT,
    Purpose.CONSOLE_SESSIONS,
    Purpose.ROOT,
)

_WARM_UP_S: Final = 1
_ASK_EVERY_S: Final = 0.5  # as `maas-gateway keys rotate` does
_GIVE_UP_S: Final = 120.0


def measure(place: Place, folder: Path) -> list[Comparison]:
    """Return the seconds a rotation takes, what predictions notice of it, and how many of them fail.

    Raises:
        PartFailed: a rotation did not succeed, or was over before the load was.
    """
    asyncio.run(_add_data_keys(place))
    with ExitStack() as stack:
        server = stack.enter_context(gateway(place, folder))
        address = f"http://{HOST}:{server.port}"
        custodian = stack.enter_context(GatewayClient(address, place.custodian))
        operator = stack.enter_context(GatewayClient(address, place.operator))
        pool = stack.enter_context(ThreadPoolExecutor(1))
        request = Request(PATH, body_of(place), token(server, place))
        check_answer(server, request, place.expected)
        put_on(server.port, request, n_clients=CLIENTS, duration_s=_WARM_UP_S, folder=folder)
        quiet_s = [_rotate(custodian, Purpose.ARTIFACTS) for _ in range(QUIET_ROUNDS)]
        rounds = [_round(server, request, custodian, pool=pool, folder=folder) for _ in range(ROUNDS)]
        whole = _every_purpose(server, request, (custodian, operator), pool=pool, folder=folder)
        check_answer(server, Request(PATH, request.body, token(server, place)), place.expected)
    return list(_lines(quiet_s, rounds, whole))


async def _add_data_keys(place: Place) -> None:
    """Have the tenant's ring wrap so many more data keys."""
    main, key_store = open_databases(load_settings(over={"data_dir": place.data_dir}))
    clock = SystemClock()
    keyring = open_keyring(load_settings(over={"data_dir": place.data_dir}), key_store, clock)
    try:
        version, key = await keyring.primary(place.tenant, Purpose.ARTIFACTS)
        async with key_store.write(place.tenant) as session:
            for _ in range(N_DATA_KEYS):
                artifact = uuid.uuid4()
                wrapped = wrap_data_key(
                    key,
                    DataKey.generate(),
                    artifact_id=artifact,
                    tenant_id=place.tenant,
                    purpose=Purpose.ARTIFACTS.value,
                    key_version=version,
                    context=artifact.bytes * 2,
                )
                await store.add_data_key(session, wrapped, clock.now())
    finally:
        await keyring.root.close()
        await main.close()
        await key_store.close()


def _rotate(caller: GatewayClient, purpose: Purpose) -> float:
    """Rotate a ring to its end; return the seconds that it took.

    Raises:
        PartFailed: it did not succeed.
    """
    began_s = time.monotonic()
    try:
        operation = caller.rotate(purpose.value)
        while operation["state"] == "running":
            if time.monotonic() - began_s > _GIVE_UP_S:
                raise PartFailed(f"rotating {purpose} did not end in {_GIVE_UP_S:g} s")
            time.sleep(_ASK_EVERY_S)
            operation = caller.operation(operation["id"])
    except GatewayRefused as refusal:
        raise PartFailed(f"rotating {purpose} was refused: {refusal}") from refusal
    if operation["state"] != "succeeded":
        raise PartFailed(f"rotating {purpose} ended as {operation['state']}: {operation['error']}")
    if purpose is Purpose.ARTIFACTS and operation["done"] < N_DATA_KEYS:
        raise PartFailed(f"rotating {purpose} rewrapped {operation['done']} data keys, not {N_DATA_KEYS}")
    return time.monotonic() - began_s


def _round(
    server: Running, request: Request, custodian: GatewayClient, *, pool: ThreadPoolExecutor, folder: Path
) -> tuple[Answered, Answered]:
    """Return what came of the load before a rotation, and of the load within it."""
    before = put_on(server.port, request, n_clients=CLIENTS, duration_s=ROUND_S, folder=folder)
    rotating = pool.submit(_rotate, custodian, Purpose.ARTIFACTS)
    during = put_on(server.port, request, n_clients=CLIENTS, duration_s=ROUND_S, folder=folder)
    is_over = rotating.done()
    took_s = rotating.result()
    if is_over:
        raise PartFailed(f"a rotation took {took_s:.1f} s, less than the {ROUND_S} s of load within it")
    return before, during


def _every_purpose(
    server: Running,
    request: Request,
    callers: tuple[GatewayClient, GatewayClient],
    *,
    pool: ThreadPoolExecutor,
    folder: Path,
) -> Answered:
    """Return what came of a load within which every ring is rotated."""
    custodian, operator = callers

    def rotate_all() -> float:
        quick_s = sum(_rotate(custodian, purpose) for purpose in CUSTODIANS)
        return quick_s + sum(_rotate(operator, purpose) for purpose in OPERATORS)

    rotating = pool.submit(rotate_all)
    answered = try_on(server.port, request, n_clients=CLIENTS, duration_s=EVERY_PURPOSE_S, folder=folder)
    is_over = rotating.done()
    took_s = rotating.result()
    if not is_over:
        raise PartFailed(f"rotating every purpose took {took_s:.1f} s, more than the {EVERY_PURPOSE_S} s of load")
    return answered


def _lines(quiet_s: list[float], rounds: list[tuple[Answered, Answered]], whole: Answered) -> Iterator[Comparison]:
    part = (
        f"Rotating while predictions go on (SQLite, 1 worker, {N_DATA_KEYS:,} data keys, one row of 30); "
        f"load by {generator()}"
    )
    took_s = statistics.median(quiet_s)
    yield Comparison(
        part,
        f"rewrapping {N_DATA_KEYS:,} data keys, no load",
        f"{took_s:.1f} s",
        f"{ALLOWED_S:g} s allowed",
        took_s / ALLOWED_S,
        "of what is allowed",
        at_most=1.0,
    )

    def line(what: str, unit: str, values: list[list[float]], *, at_most: float | None = None) -> Comparison:
        before, during = values
        what = f"{what}, {CLIENTS} clients, during against before"
        return Comparison.of_rounds(part, what, unit, (during, before), reads="of before", at_most=at_most)

    sides = tuple(zip(*rounds, strict=True))
    yield line("throughput", "/s", [[a.per_s for a in side] for side in sides])
    yield line("time to answer, median", "µs", [[a.p50_us for a in side] for side in sides])
    yield line(
        "time to answer, 99th percentile", "µs", [[a.p99_us for a in side] for side in sides], at_most=P99_TARGET
    )
    yield Comparison(
        part,
        f"requests failed while every purpose was rotated, {CLIENTS} clients",
        f"{whole.n_failed} of {whole.n_requests:,}",
        "0 allowed",
        float(whole.n_failed),
        "failed",
        at_most=0.0,
    )
