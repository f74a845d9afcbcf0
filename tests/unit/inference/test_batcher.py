import asyncio
import random
import threading
from collections.abc import Awaitable, Callable
from uuid import UUID

import numpy as np
import pytest

from maas_gateway.clock import Deadline
from maas_gateway.errors import (
    DeadlineExceeded,
    GatewayError,
    InputRefused,
    ModelNotReady,
    NeverBegun,
    Overloaded,
    SignatureMismatch,
)
from maas_gateway.identifiers import TenantId
from maas_gateway.inference.batcher import Batcher, BatchReport
from maas_gateway.inference.threads import ThreadExecutor
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.inference import InferenceRequest
from maas_gateway.tensors.signature import ModelSignature, TensorSpec
from maas_gateway.tensors.tensor import Tensor
from simulators.runtime import ROWS, SimulatedRuntime, double_and_sum

A, B, C = (TenantId(UUID(int=number)) for number in (1, 2, 3))
POISON = np.float32(-666)
Answer = tuple[Tensor, ...]


def request_of(*values: float, outputs: tuple[str, ...] = ()) -> InferenceRequest:
    """One row for each value, which fills it."""
    array = np.repeat(np.array(values, np.float32)[:, None], 3, axis=1)
    return InferenceRequest((Tensor("x", Datatype.FP32, array),), len(values), outputs)


def values_of(answer: Answer) -> list[float]:
    """Undo `request_of` on an answer with all outputs, after checking it."""
    doubled, total = answer
    assert (doubled.name, total.name) == ("double", "sum")
    np.testing.assert_array_equal(doubled.array[:, 0] * 1.5, total.array)
    return [float(value) for value in doubled.array[:, 0] / 2]


def rows_of(runtime: SimulatedRuntime) -> list[list[float]]:
    """The values of each call the runtime got."""
    return [[float(value) for value in inputs[0][:, 0]] for inputs in runtime.calls]


class Bench:
    """A batcher on threads with a simulated runtime, in a running loop."""

    def __init__(self, runtime: SimulatedRuntime, *, max_rows: int = 8, max_queue: int = 100) -> None:
        self.runtime = runtime
        self.reports: list[BatchReport] = []
        self.complaints: list[dict[str, object]] = []
        self.executor = ThreadExecutor(2)
        self.batcher = Batcher(
            runtime, self.executor, max_rows=max_rows, max_queue=max_queue, observe=self.reports.append
        )

    def send(
        self, *values: float, tenant: TenantId = A, within_s: float = 30, outputs: tuple[str, ...] = ()
    ) -> asyncio.Task[Answer]:
        request = request_of(*values, outputs=outputs)
        return asyncio.ensure_future(self.batcher.submit(request, tenant, Deadline.after(within_s)))

    async def hold_one(self) -> asyncio.Task[Answer]:
        """Occupy the runtime with a request of its own."""
        self.runtime.hold()
        task = self.send(-1)
        await self.until_begun()
        return task

    async def until_begun(self) -> None:
        await asyncio.to_thread(self.runtime.wait_until_begun)

    async def tick(self) -> None:
        """Let tasks that were just made reach their first wait."""
        for _ in range(3):
            await asyncio.sleep(0)


def play(story: Callable[[Bench], Awaitable[None]], runtime: SimulatedRuntime | None = None, **limits: int) -> Bench:
    """Run a story to its end and see that nothing is left, overlapped or complained about."""

    async def go() -> Bench:
        bench = Bench(runtime or SimulatedRuntime(), **limits)
        asyncio.get_running_loop().set_exception_handler(lambda _, context: bench.complaints.append(context))
        try:
            async with asyncio.timeout(30):
                await story(bench)
                bench.runtime.let_go()
                await bench.batcher.drain()
        finally:
            bench.runtime.let_go()
            bench.executor.close()
        assert bench.batcher.n_queued == 0
        return bench

    bench = asyncio.run(go())
    assert not bench.runtime.overlapped
    assert bench.complaints == []
    return bench


def test_submit_answers_with_all_outputs_in_the_signatures_order() -> None:
    async def story(bench: Bench) -> None:
        answer = await bench.send(3, 4)
        assert values_of(answer) == [3, 4]
        assert [tensor.datatype for tensor in answer] == [Datatype.FP32, Datatype.FP32]

    play(story)


@pytest.mark.parametrize("asked", [("sum",), ("sum", "double"), ("double",)])
def test_submit_answers_with_the_outputs_asked_for_in_that_order(asked: tuple[str, ...]) -> None:
    async def story(bench: Bench) -> None:
        together = bench.send(1), bench.send(5, outputs=asked), bench.send(2)
        answers = await asyncio.gather(*together)
        assert [tensor.name for tensor in answers[1]] == list(asked)
        by_name = {tensor.name: tensor.array for tensor in answers[1]}
        if "sum" in asked:
            np.testing.assert_array_equal(by_name["sum"], [15])
        if "double" in asked:
            np.testing.assert_array_equal(by_name["double"], [[10, 10, 10]])
        assert values_of(answers[0]) == [1]

    assert len(play(story).runtime.calls) == 1


def test_submit_refuses_an_output_that_the_model_does_not_have() -> None:
    async def story(bench: Bench) -> None:
        with pytest.raises(SignatureMismatch, match="unknown output 'z'"):
            await bench.send(1, outputs=("sum", "z"))

    assert play(story).runtime.calls == []


def test_submit_refuses_rows_and_inputs_that_do_not_add_up() -> None:
    async def story(bench: Bench) -> None:
        good = request_of(1, 2)
        for bad in (InferenceRequest(good.inputs, 3), InferenceRequest(good.inputs * 2, 2), InferenceRequest((), 2)):
            with pytest.raises(SignatureMismatch):
                await bench.batcher.submit(bad, A, Deadline.after(30))

    assert play(story).runtime.calls == []


def test_requests_of_one_tick_share_a_batch() -> None:
    async def story(bench: Bench) -> None:
        answers = await asyncio.gather(*[bench.send(value) for value in range(5)])
        assert [values_of(answer) for answer in answers] == [[value] for value in range(5)]

    bench = play(story)
    assert rows_of(bench.runtime) == [[0, 1, 2, 3, 4]]
    assert (bench.batcher.counts.n_batches, bench.batcher.counts.n_requests, bench.batcher.counts.n_rows) == (1, 5, 5)
    (report,) = bench.reports
    assert (report.n_requests, report.n_rows, report.failures) == (5, 5, ())
    assert report.took_s > 0


def test_requests_that_arrive_while_a_batch_runs_are_the_next_one() -> None:
    async def story(bench: Bench) -> None:
        first = await bench.hold_one()
        later = [bench.send(value) for value in range(4)]
        await bench.tick()
        assert bench.batcher.n_queued == 4
        bench.runtime.let_go()
        assert [values_of(answer) for answer in await asyncio.gather(first, *later)] == [[-1], [0], [1], [2], [3]]

    assert rows_of(play(story).runtime) == [[-1], [0, 1, 2, 3]]


def test_batch_has_no_more_rows_than_allowed() -> None:
    async def story(bench: Bench) -> None:
        first = await bench.hold_one()
        later = [bench.send(10, 11, 12), bench.send(20, 21), bench.send(30, 31), bench.send(40)]
        await bench.tick()
        bench.runtime.let_go()
        await asyncio.gather(first, *later)

    assert rows_of(play(story, max_rows=5).runtime) == [[-1], [10, 11, 12, 20, 21], [30, 31, 40]]


def test_request_larger_than_a_batch_runs_alone_in_pieces() -> None:
    async def story(bench: Bench) -> None:
        small, large, after = bench.send(1), bench.send(*range(10)), bench.send(2)
        assert values_of(await large) == list(range(10))
        assert values_of(await small) == [1]
        assert values_of(await after) == [2]

    bench = play(story, max_rows=4)
    assert rows_of(bench.runtime) == [[1], [0, 1, 2, 3], [4, 5, 6, 7], [8, 9], [2]]


def test_batches_never_mix_tenants_whatever_the_order_of_arrival() -> None:
    chance = random.Random(11)

    async def story(bench: Bench) -> None:
        number = 0

        async def client(tenant: TenantId) -> None:
            nonlocal number
            for _ in range(40):
                number += 1
                value = float(number * 10 + tenant.int)
                n_rows = chance.randrange(1, 5)
                assert values_of(await bench.send(*[value] * n_rows, tenant=tenant)) == [value] * n_rows
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)

        await asyncio.gather(*[client(tenant) for tenant in (A, B, C) for _ in range(8)])

    bench = play(story, max_rows=6)
    for row in rows_of(bench.runtime):
        assert len({value % 10 for value in row}) == 1
    assert sum(len(row) for row in rows_of(bench.runtime)) == bench.batcher.counts.n_rows
    assert bench.batcher.counts.n_requests == 3 * 8 * 40
    assert len(bench.runtime.calls) < 3 * 8 * 40  # and they do share


def test_requests_of_other_widths_do_not_share() -> None:
    free = ModelSignature((TensorSpec("x", Datatype.FP32, (-1, -1)),), (TensorSpec("sum", Datatype.FP32, (-1,)),))
    runtime = SimulatedRuntime(free, lambda inputs: (inputs[0].sum(axis=1),))

    async def story(bench: Bench) -> None:
        def send(width: int) -> Awaitable[Answer]:
            request = InferenceRequest((Tensor("x", Datatype.FP32, np.ones((2, width), np.float32)),), 2)
            return bench.batcher.submit(request, A, Deadline.after(30))

        answers = await asyncio.gather(*[send(width) for width in (1, 2, 1, 2, 3)])
        assert [float(answer[0].array[0]) for answer in answers] == [1, 2, 1, 2, 3]

    assert [inputs[0].shape for inputs in play(story, runtime).runtime.calls] == [(4, 1), (4, 2), (2, 3)]


@pytest.mark.parametrize(
    ("x", "y"), [((2, 3), (2, 3)), ((-1, 3), (3,))], ids=["no batch dimension", "output without rows"]
)
def test_model_whose_rows_cannot_be_told_apart_runs_one_request_at_a_time(
    x: tuple[int, ...], y: tuple[int, ...]
) -> None:
    signature = ModelSignature((TensorSpec("x", Datatype.FP32, x),), (TensorSpec("y", Datatype.FP32, y),))
    runtime = SimulatedRuntime(signature, lambda inputs: (inputs[0] + 1 if y == x else inputs[0].sum(axis=0),))

    async def story(bench: Bench) -> None:
        arrays = [np.full((2, 3), value, np.float32) for value in range(4)]
        n_rows = 2 if signature.has_batch else 1
        requests = [InferenceRequest((Tensor("x", Datatype.FP32, array),), n_rows) for array in arrays]
        answers = await asyncio.gather(*[bench.batcher.submit(each, A, Deadline.after(30)) for each in requests])
        for array, answer in zip(arrays, answers, strict=True):
            np.testing.assert_array_equal(answer[0].array, array + 1 if y == x else array.sum(axis=0))

    bench = play(story, runtime)
    assert [inputs[0].shape for inputs in bench.runtime.calls] == [(2, 3)] * 4


def test_full_queue_refuses_with_a_time_to_come_back() -> None:
    async def story(bench: Bench) -> None:
        first = await bench.hold_one()
        inside = [bench.send(value) for value in range(3)]
        await bench.tick()
        with pytest.raises(Overloaded) as caught:
            await bench.send(9)
        assert caught.value.retry_after_s is not None
        assert 1 <= caught.value.retry_after_s <= 30
        bench.runtime.let_go()
        await asyncio.gather(first, *inside)
        assert values_of(await bench.send(10)) == [10]

    bench = play(story, max_queue=3)
    assert bench.batcher.counts.n_overloaded == 1
    assert [9] not in rows_of(bench.runtime)


def test_tenant_that_fills_the_queue_has_to_make_room_for_another() -> None:
    async def story(bench: Bench) -> None:
        first = await bench.hold_one()
        flood = [bench.send(value) for value in range(4)]
        await bench.tick()
        other = bench.send(100, tenant=B)
        await bench.tick()
        bench.runtime.let_go()
        answers = await asyncio.gather(first, *flood, other, return_exceptions=True)
        assert isinstance(answers[4], Overloaded)
        assert not any(isinstance(answer, BaseException) for answer in (*answers[:4], answers[5]))

    assert rows_of(play(story, max_queue=4).runtime) == [[-1], [0, 1, 2], [100]]


def test_request_whose_deadline_passes_in_line_is_never_run() -> None:
    async def story(bench: Bench) -> None:
        first = await bench.hold_one()
        patient, hasty = bench.send(1), bench.send(2, within_s=0.2)
        with pytest.raises(NeverBegun):
            await hasty
        assert bench.batcher.n_queued == 1
        bench.runtime.let_go()
        await asyncio.gather(first, patient)

    bench = play(story)
    assert rows_of(bench.runtime) == [[-1], [1]]
    assert bench.batcher.counts.n_expired == 1


def test_request_whose_deadline_has_passed_is_refused_at_once() -> None:
    async def story(bench: Bench) -> None:
        with pytest.raises(NeverBegun):
            await bench.send(1, within_s=-1)

    assert play(story).runtime.calls == []


def test_request_late_or_cancelled_when_a_thread_takes_its_batch_is_not_run() -> None:
    gate, begun = threading.Event(), threading.Semaphore(0)

    def occupy() -> None:
        begun.release()
        gate.wait(20)

    async def story(bench: Bench) -> None:
        others = [asyncio.ensure_future(bench.executor.run(occupy)) for _ in range(2)]
        for _ in others:
            await asyncio.to_thread(begun.acquire)
        hasty, patient, leaving, also = bench.send(1, within_s=0.2), bench.send(2), bench.send(4), bench.send(3)
        with pytest.raises(DeadlineExceeded):
            await hasty
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        gate.set()
        assert [values_of(answer) for answer in await asyncio.gather(patient, also)] == [[2], [3]]
        await asyncio.gather(*others)

    assert rows_of(play(story).runtime) == [[2, 3]]


def test_request_that_is_late_because_the_loop_was_busy_is_not_run() -> None:
    async def story(bench: Bench) -> None:
        hasty, patient, also = bench.send(1, within_s=0.3), bench.send(2), bench.send(3)
        asyncio.get_running_loop().call_soon(threading.Event().wait, 0.4)  # blocks the loop before the batch starts
        answers = await asyncio.gather(hasty, patient, also, return_exceptions=True)
        assert isinstance(answers[0], DeadlineExceeded)

    bench = play(story)
    assert rows_of(bench.runtime) == [[2, 3]]
    assert bench.batcher.counts.n_expired == 1


def test_caller_hears_of_its_deadline_while_its_batch_still_runs() -> None:
    async def story(bench: Bench) -> None:
        bench.runtime.hold()
        hasty, patient = bench.send(1, within_s=0.3), bench.send(2)
        await bench.until_begun()
        with pytest.raises(DeadlineExceeded) as late:
            await hasty
        assert not isinstance(late.value, NeverBegun)
        assert not patient.done()
        bench.runtime.let_go()
        assert values_of(await patient) == [2]

    assert rows_of(play(story).runtime) == [[1, 2]]


def test_deadlines_that_come_in_any_order_are_all_kept() -> None:
    async def story(bench: Bench) -> None:
        first = await bench.hold_one()
        limits_s = [0.05, 0.01, 0.03, 30, 0.02, 0.04]
        tasks = [bench.send(value, within_s=limit_s) for value, limit_s in enumerate(limits_s)]
        await asyncio.wait([task for task, limit_s in zip(tasks, limits_s, strict=True) if limit_s < 1])
        bench.runtime.let_go()
        answers = await asyncio.gather(first, *tasks, return_exceptions=True)
        assert [isinstance(answer, DeadlineExceeded) for answer in answers[1:]] == [limit_s < 1 for limit_s in limits_s]

    assert rows_of(play(story).runtime) == [[-1], [3]]


def test_late_request_is_not_run_when_its_batch_is_tried_again() -> None:
    runtime = SimulatedRuntime(compute=_fails_on_poison)

    async def story(bench: Bench) -> None:
        bench.runtime.hold()
        hasty, poison, patient = bench.send(1, within_s=0.3), bench.send(POISON), bench.send(2)
        await bench.until_begun()
        with pytest.raises(DeadlineExceeded):
            await hasty
        bench.runtime.let_go()
        assert values_of(await patient) == [2]
        with pytest.raises(GatewayError):
            await poison

    assert rows_of(play(story, runtime).runtime) == [[1, -666, 2], [-666], [2]]


def test_cancelled_caller_leaves_its_line_and_makes_room() -> None:
    async def story(bench: Bench) -> None:
        first = await bench.hold_one()
        leaving, staying = bench.send(1), bench.send(2)
        await bench.tick()
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert bench.batcher.n_queued == 1
        new = bench.send(3)
        await bench.tick()
        bench.runtime.let_go()
        await asyncio.gather(first, staying, new)

    assert rows_of(play(story, max_queue=2).runtime) == [[-1], [2, 3]]


def test_cancelled_caller_of_a_running_batch_does_not_disturb_the_others() -> None:
    async def story(bench: Bench) -> None:
        bench.runtime.hold()
        leaving, staying = bench.send(1), bench.send(2)
        await bench.until_begun()
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        bench.runtime.let_go()
        assert values_of(await staying) == [2]

    play(story)


def test_large_request_stops_between_pieces_once_its_caller_has_gone() -> None:
    async def story(bench: Bench) -> None:
        bench.runtime.hold()
        task = bench.send(*range(6))
        await bench.until_begun()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        bench.runtime.let_go()
        assert values_of(await bench.send(7)) == [7]

    assert rows_of(play(story, max_rows=2).runtime) == [[0, 1], [7]]


def _fails_on_poison(inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    if (inputs[0] == POISON).any():
        raise ZeroDivisionError("the engine's own words, which no caller sees")
    return double_and_sum(inputs)


def test_failure_is_one_fixed_sentence_with_its_cause() -> None:
    async def story(bench: Bench) -> None:
        with pytest.raises(GatewayError) as caught:
            await bench.send(POISON)
        assert caught.value.detail == "the model failed to compute an answer"
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        assert values_of(await bench.send(1)) == [1]

    bench = play(story, SimulatedRuntime(compute=_fails_on_poison))
    assert [len(report.failures) for report in bench.reports] == [1, 0]


def test_poison_fails_its_own_request_and_not_its_neighbours() -> None:
    async def story(bench: Bench) -> None:
        tasks = [bench.send(value) for value in (1, 2, POISON, 3)]
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(answer, GatewayError) for answer in answers] == [False, False, True, False]
        assert values_of(answers[3]) == [3]  # type: ignore[arg-type]

    bench = play(story, SimulatedRuntime(compute=_fails_on_poison))
    assert rows_of(bench.runtime) == [[1, 2, -666, 3], [1], [2], [-666], [3]]


def test_error_of_ours_reaches_its_caller_as_it_is() -> None:
    refusal = InputRefused("not this one")

    def compute(inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        raise refusal

    async def story(bench: Bench) -> None:
        with pytest.raises(InputRefused) as caught:
            await bench.send(1)
        assert caught.value is refusal

    play(story, SimulatedRuntime(compute=compute))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda outputs: outputs[:1],
        lambda outputs: (outputs[0][:-1], outputs[1]),
        lambda outputs: (outputs[0], outputs[1].sum()),
        lambda outputs: (outputs[0], np.append(outputs[1], np.float32(0))),
    ],
    ids=["an output missing", "a row missing", "a scalar", "a row too many"],
)
@pytest.mark.parametrize("n_requests", [1, 3])
def test_outputs_that_do_not_fit_the_rows_reach_nobody(
    spoil: Callable[[tuple[np.ndarray, ...]], tuple[np.ndarray, ...]], n_requests: int
) -> None:
    async def story(bench: Bench) -> None:
        tasks = [bench.send(value, value + 1) for value in range(n_requests)]
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(type(answer) is GatewayError for answer in answers)

    play(story, SimulatedRuntime(compute=lambda inputs: spoil(double_and_sum(inputs))))


def test_closed_executor_fails_every_caller_and_hangs_none() -> None:
    async def story(bench: Bench) -> None:
        first = await bench.hold_one()
        inside = [bench.send(value, tenant=tenant) for value, tenant in enumerate((A, B, C, A))]
        await bench.tick()
        bench.executor.close()
        answers = await asyncio.gather(first, *inside, return_exceptions=True)
        assert all(isinstance(answer, ModelNotReady) for answer in answers)

    play(story)


class _Careless(ThreadExecutor):
    """Gives up what it was handed."""

    def submit(self, call: Callable[[], object]) -> asyncio.Future[object]:  # type: ignore[override]
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        future.cancel()
        return future


def test_batch_that_the_executor_gives_up_fails() -> None:
    async def go() -> None:
        executor = _Careless(1)
        batcher = Batcher(SimulatedRuntime(), executor, max_rows=4, max_queue=4)
        async with asyncio.timeout(10):
            with pytest.raises(GatewayError):
                await batcher.submit(request_of(1), A, Deadline.after(30))
            await batcher.drain()
        executor.close()

    asyncio.run(go())


def test_drain_serves_what_waits_and_then_refuses() -> None:
    async def story(bench: Bench) -> None:
        first = await bench.hold_one()
        inside = [bench.send(value) for value in range(20)]
        await bench.tick()
        draining = asyncio.ensure_future(bench.batcher.drain())
        await bench.tick()
        late = bench.send(99)
        await bench.tick()
        assert not draining.done()
        bench.runtime.let_go()
        answers = await asyncio.gather(first, *inside, late)
        assert [values_of(answer)[0] for answer in answers] == [-1, *range(20), 99]
        await draining
        with pytest.raises(ModelNotReady):
            await bench.send(1)

    play(story)


def test_drain_of_an_idle_batcher_returns() -> None:
    async def story(bench: Bench) -> None:
        await bench.batcher.drain()
        await bench.batcher.drain()
        with pytest.raises(ModelNotReady):
            await bench.send(1)

    play(story)


def test_close_answers_the_running_batch_and_fails_the_rest() -> None:
    async def story(bench: Bench) -> None:
        first = await bench.hold_one()
        inside = [bench.send(value) for value in range(3)]
        await bench.tick()
        bench.batcher.close()
        answers = await asyncio.gather(*inside, return_exceptions=True)
        assert all(isinstance(answer, ModelNotReady) for answer in answers)
        bench.runtime.let_go()
        assert values_of(await first) == [-1]

    play(story)


def test_close_keeps_the_deadline_of_the_running_batch() -> None:
    async def story(bench: Bench) -> None:
        bench.runtime.hold()
        hasty = bench.send(1, within_s=0.3)
        await bench.until_begun()
        bench.batcher.close()
        with pytest.raises(DeadlineExceeded):
            await hasty

    play(story)


def test_runtime_is_called_off_the_event_loops_thread() -> None:
    threads: list[int] = []

    def compute(inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        threads.append(threading.get_ident())
        return double_and_sum(inputs)

    async def story(bench: Bench) -> None:
        await asyncio.gather(*[bench.send(value) for value in range(3)])

    play(story, SimulatedRuntime(compute=compute))
    assert threads
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("limits", [{"max_rows": 0, "max_queue": 1}, {"max_rows": 1, "max_queue": 0}])
def test_batcher_without_room_is_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Batcher(SimulatedRuntime(ROWS), ThreadExecutor(1), **limits)
