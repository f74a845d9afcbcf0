"""Engines that several tenants keep busy: who gets how much of them, in what order."""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Callable

import numpy as np

from maas_gateway.clock import Deadline
from maas_gateway.identifiers import TenantId
from maas_gateway.inference.batcher import Batcher
from maas_gateway.inference.fairness import FairTime
from maas_gateway.inference.threads import ThreadExecutor
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.inference import InferenceRequest
from maas_gateway.tensors.tensor import Tensor
from simulators.runtime import WIDTH, SimulatedRuntime, double_and_sum

A, B, C = (TenantId(uuid.uuid4()) for _ in range(3))


def turns(fair: FairTime, cost_s: dict[TenantId, float], n: int) -> Counter[TenantId]:
    """Let tenants that always want more take n turns; return the seconds that each has had, in thousandths."""
    had: Counter[TenantId] = Counter()
    for _ in range(n):
        tenant = min(cost_s, key=fair.tag)
        guess_s = fair.begin(tenant)
        fair.end(tenant, guess_s, cost_s[tenant])
        had[tenant] += round(cost_s[tenant] * 1e6)
    return had


def test_equal_tenants_get_equal_time_however_long_their_turns_are() -> None:
    had = turns(FairTime(), {A: 0.010, B: 0.001, C: 0.003}, 3_000)
    assert max(had.values()) < 1.02 * min(had.values())


def test_a_tenant_gets_time_by_its_weight() -> None:
    had = turns(FairTime({A: 3, B: 1}.__getitem__), {A: 0.002, B: 0.001}, 3_000)
    assert 2.9 < had[A] / had[B] < 3.1


def test_who_was_away_saves_nothing_up_and_owes_nothing() -> None:
    fair = FairTime()
    turns(fair, {A: 0.001}, 1_000)
    had = turns(fair, {A: 0.001, B: 0.001}, 100)
    assert abs(had[A] - had[B]) <= 2_000
    turns(fair, {B: 0.001}, 1_000)
    had = turns(fair, {A: 0.001, B: 0.001}, 100)
    assert abs(had[A] - had[B]) <= 2_000


def test_turns_that_run_at_once_count_before_they_end() -> None:
    fair = FairTime()
    turns(fair, {A: 0.001, B: 0.001}, 20)
    begun = []
    for _ in range(4):
        tenant = min((A, B), key=fair.tag)
        begun.append(tenant)
        fair.begin(tenant)
    assert Counter(begun) == {A: 2, B: 2}


def test_idle_tenants_are_forgotten() -> None:
    fair = FairTime()
    for _ in range(10_000):
        tenant = TenantId(uuid.uuid4())
        fair.end(tenant, fair.begin(tenant), 0.0)
    assert len(fair._finish) < 5_000


def _spend(seconds: float) -> Callable[[], None]:
    return lambda: time.sleep(seconds)


def test_a_tenant_with_many_models_does_not_crowd_out_one_with_one() -> None:
    async def story() -> list[TenantId]:
        executor = ThreadExecutor(1, fair_time=FairTime())
        ended: list[TenantId] = []

        def submit(tenant: TenantId) -> asyncio.Future[None]:
            future = executor.submit(_spend(0.002), tenant)
            future.add_done_callback(lambda _: ended.append(tenant))
            return future

        flood = [submit(A) for _ in range(40)]
        own = [submit(B) for _ in range(10)]
        await asyncio.gather(*flood, *own)
        executor.close()
        return ended

    ended = asyncio.run(story())
    assert ended[2:24].count(B) == 10  # two of A's were handed over before B came; from then on they take turns


def _request(n_rows: int, cost_s: float) -> InferenceRequest:
    return InferenceRequest((Tensor("x", Datatype.FP32, np.full((n_rows, WIDTH), cost_s, np.float32)),), n_rows)


def test_on_one_model_time_is_shared_and_not_turns() -> None:
    """A's rows take ten times as long as B's: of the same model, B gets ten turns for each of A's."""
    costs_s = {A: 0.0005, B: 0.00005}

    def compute(inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        time.sleep(float(inputs[0][:, 0].sum()))
        return double_and_sum(inputs)

    async def story() -> dict[TenantId, float]:
        fair = FairTime()
        executor = ThreadExecutor(1, fair_time=fair)
        batcher = Batcher(SimulatedRuntime(compute=compute), executor, max_rows=10, max_queue=1_000, fair_time=fair)
        had_s = dict.fromkeys(costs_s, 0.0)

        async def ask(tenant: TenantId) -> None:
            def charge(_: int, compute_s: float) -> None:
                had_s[tenant] += compute_s

            while time.monotonic() < ends_at_s:
                await batcher.submit(_request(1, costs_s[tenant]), tenant, Deadline.after(20), charge)

        ends_at_s = time.monotonic() + 1.5
        await asyncio.gather(*(ask(tenant) for tenant in costs_s for _ in range(40)))
        await batcher.drain()
        executor.close()
        return had_s

    had_s = asyncio.run(story())
    assert 0.6 < had_s[A] / had_s[B] < 1.7  # by turns it would be 7 or so
