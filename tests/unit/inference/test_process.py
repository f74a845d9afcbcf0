"""A model in a process of its own: what it answers, and what becomes of one that misbehaves."""

import asyncio
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from maas_gateway.clock import Deadline
from maas_gateway.confinement.limits import Limits
from maas_gateway.confinement.resident import ResidentChild
from maas_gateway.errors import (
    ArtifactRefused,
    DeadlineExceeded,
    GatewayError,
    InvalidRequest,
    ModelNotReady,
    Unavailable,
)
from maas_gateway.identifiers import TenantId
from maas_gateway.inference.batcher import Batcher
from maas_gateway.inference.process import MODULE, End, Plan, ProcessRuntime
from maas_gateway.inference.threads import ThreadExecutor
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.inference import InferenceRequest
from maas_gateway.tensors.signature import ModelSignature, TensorSpec
from maas_gateway.tensors.tensor import Tensor

pytestmark = pytest.mark.thorough

CHILDREN = Path(__file__).parent / "children"
Load = Callable[..., ProcessRuntime]


def signature_of(datatype: Datatype, *, columns: int, output: tuple[int, ...]) -> ModelSignature:
    return ModelSignature((TensorSpec("x", datatype, (-1, columns)),), (TensorSpec("y", Datatype.FP32, output),))


ODD = signature_of(Datatype.FP32, columns=1, output=(-1, 2))
SEED = signature_of(Datatype.FP32, columns=30, output=(-1, 1))
ENDLESS = signature_of(Datatype.FP32, columns=3, output=(-1, 3))
EMBEDDING = signature_of(Datatype.INT32, columns=4, output=(-1, 3))
HUNGRY = signature_of(Datatype.INT32, columns=1, output=(-1,))


@pytest.fixture
def load() -> Iterator[Load]:
    loaded: list[ProcessRuntime] = []

    def begin(
        content: bytes, signature: ModelSignature, *, runtime: str = "litert", module: str = MODULE, call_s: float = 20
    ) -> ProcessRuntime:
        plan = Plan(runtime, signature, (0,), (0,))
        child = ResidentChild(
            module,
            limits=Limits(memory_bytes=1 << 29, cpu_s=0),
            arguments=plan.arguments(size_bytes=len(content), n_threads=1),
            search_paths=[CHILDREN],
        )
        begun = ProcessRuntime.load(child, memoryview(content), signature, load_s=5, call_s=call_s)
        loaded.append(begun)
        return begun

    yield begin
    for runtime in loaded:
        runtime.close()


@pytest.fixture
def real(load: Load, flatbuffers: Path) -> Load:
    def begin(name: str, signature: ModelSignature, **more: float) -> ProcessRuntime:
        return load((flatbuffers / f"{name}.tflite").read_bytes(), signature, **more)

    return begin


def odd(number: float) -> tuple[np.ndarray, ...]:
    return (np.array([[number]], np.float32),)


def rows(*sums: float) -> np.ndarray:
    return np.array([[total, 0, 0] for total in sums], np.float32)


def test_it_answers_what_the_engine_answers_for_any_number_of_rows(real: Load, flatbuffers: Path) -> None:
    runtime = real("seed", SEED)
    stored = np.load(flatbuffers / "seed.npz")
    first, second, third = (stored[name] for name in stored.files)
    for n_rows in (1, 7, 1, 4_000):
        x = np.random.default_rng(n_rows).normal(size=(n_rows, 30)).astype(np.float32)
        hidden = np.maximum(np.maximum(x @ first, 0) @ second, 0)
        (y,) = runtime.run((x,))
        assert (y.shape, y.dtype) == ((n_rows, 1), np.float32)
        np.testing.assert_allclose(y, 1 / (1 + np.exp(-(hidden @ third))), rtol=1e-5)
        assert y.flags.writeable


def test_an_input_that_the_engine_refuses_is_the_requests_fault_and_leaves_the_process_whole(real: Load) -> None:
    runtime = real("embedding", EMBEDDING)
    good = np.array([[0, 1, 2, 9]], np.int32)
    before = runtime.run((good,))[0]
    for bad in (good + 100, good.astype(np.int64), good[:, :3]):
        with pytest.raises(InvalidRequest, match="cannot compute this input"):
            runtime.run((bad,))
    np.testing.assert_array_equal(runtime.run((good,))[0], before)


def test_memory_that_an_input_asks_for_is_bounded_in_the_process(real: Load) -> None:
    runtime = real("hungry", HUNGRY)
    assert runtime.run((np.array([[3]], np.int32),))[0] == 4
    with pytest.raises((InvalidRequest, Unavailable)):
        runtime.run((np.array([[1_000]], np.int32),))


def test_what_is_no_model_is_refused_and_its_process_ended(load: Load) -> None:
    with pytest.raises(ArtifactRefused, match="cannot load the converted model"):
        load(b"no flatbuffer at all", SEED)
    with pytest.raises(ArtifactRefused, match="no runtime of this gateway"):
        load(b"", SEED, runtime="pickle")


@pytest.mark.parametrize(
    ("runtime", "kind", "sentence"),
    [
        pytest.param("refuses", ArtifactRefused, r"it is \[31mno model", id="a refusal"),
        pytest.param("hangs", Unavailable, "processes.load_s", id="time"),
        pytest.param("eats", Unavailable, "processes.memory_bytes", id="memory"),
        pytest.param("dies", Unavailable, "ended while it loaded", id="a crash"),
    ],
)
def test_a_plan_that_cannot_be_loaded_says_why_in_our_words(
    load: Load, runtime: str, kind: type[GatewayError], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence) as caught:
        load(b"plan", ODD, runtime=runtime, module="odd_model")
    assert "secret" not in caught.value.detail
    assert "passwd" not in caught.value.detail
    assert caught.value.detail.isprintable()


@pytest.mark.parametrize("number", [2, 3, 4, 5, 6, 7])
def test_a_process_that_answers_nonsense_is_ended(load: Load, number: float) -> None:
    runtime = load(b"plan", ODD, runtime="odd", module="odd_model")
    assert runtime.run(odd(1))[0].shape == (1, 2)
    with pytest.raises(Unavailable, match="ended before it answered") as caught:
        runtime.run(odd(number))
    assert not isinstance(caught.value, ModelNotReady), "the call is not given to another process"
    assert (runtime.has_ended, runtime.end) == (True, End.PROTOCOL)
    with pytest.raises(ModelNotReady):
        runtime.run(odd(1))


@pytest.mark.parametrize("number", [8, 9])
def test_a_refusal_is_told_in_our_words(load: Load, number: float) -> None:
    runtime = load(b"plan", ODD, runtime="odd", module="odd_model")
    with pytest.raises(InvalidRequest) as caught:
        runtime.run(odd(number))
    assert caught.value.detail == "the model cannot compute this input"
    assert runtime.run(odd(1))[0].shape == (1, 2)


@pytest.mark.parametrize(
    ("number", "end", "sentence"),
    [
        pytest.param(10, End.OUT_OF_MEMORY, "more memory", id="memory"),
        pytest.param(11, End.CRASHED, "ended before it answered", id="a crash"),
    ],
)
def test_a_process_that_ends_in_a_call_fails_that_call(load: Load, number: float, end: End, sentence: str) -> None:
    runtime = load(b"plan", ODD, runtime="odd", module="odd_model")
    with pytest.raises(Unavailable, match=sentence) as caught:
        runtime.run(odd(number))
    assert runtime.end is end
    assert caught.value.retry_after_s


def test_a_process_that_was_killed_between_calls_computes_nothing_more(real: Load) -> None:
    runtime = real("endless", ENDLESS)
    os.kill(runtime.pid, signal.SIGKILL)
    poll = select.poll()
    poll.register(runtime.ended_fd, select.POLLIN)
    assert poll.poll(5_000)
    with pytest.raises(ModelNotReady):
        runtime.run((rows(-1),))
    assert runtime.has_ended


def test_a_process_that_is_killed_in_a_call_fails_it(real: Load) -> None:
    runtime = real("endless", ENDLESS)
    timer = threading.Timer(0.3, os.kill, [runtime.pid, signal.SIGKILL])
    timer.start()
    with pytest.raises(Unavailable):
        runtime.run((rows(1),))
    timer.join()
    assert runtime.has_ended


def test_a_call_that_takes_too_long_is_ended_with_its_process(real: Load) -> None:
    runtime = real("endless", ENDLESS, call_s=0.3)
    np.testing.assert_array_equal(runtime.run((rows(-1),))[0], rows(-1))
    with pytest.raises(DeadlineExceeded, match=r"0\.3 s at most"):
        runtime.run((rows(1),))
    assert runtime.end is End.TIMED_OUT


def test_closing_ends_a_call_and_says_so(real: Load) -> None:
    runtime = real("endless", ENDLESS)
    timer = threading.Timer(0.3, runtime.close)
    timer.start()
    with pytest.raises(ModelNotReady, match="not loaded any more"):
        runtime.run((rows(1),))
    timer.join()
    runtime.close()
    with pytest.raises(ModelNotReady):
        runtime.run((rows(-1),))


def test_a_batch_that_nobody_waits_for_is_ended_soon_and_one_that_is_waited_for_is_not(real: Load) -> None:
    runtime = real("endless", ENDLESS, call_s=60)
    tenant = TenantId(UUID(int=1))

    def asked(total: float) -> InferenceRequest:
        return InferenceRequest((Tensor("x", Datatype.FP32, rows(total)),), 1)

    async def play() -> float:
        executor = ThreadExecutor(1)
        batcher = Batcher(runtime, executor, max_rows=1, max_queue=9, interrupt=runtime.interrupt)
        for _ in range(3):
            (y,) = await batcher.submit(asked(-1), tenant, Deadline.after(20))
            np.testing.assert_array_equal(y.array, rows(-1))
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            await batcher.submit(asked(1), tenant, Deadline.after(0.2))
        assert time.monotonic() - began < 1
        assert not runtime.has_ended, "the process has a second more"
        with pytest.raises(ModelNotReady):
            await batcher.submit(asked(-1), tenant, Deadline.after(20))
        took_s = time.monotonic() - began
        await batcher.drain()
        executor.close()
        return took_s

    assert 1 < asyncio.run(play()) < 5
    assert runtime.end is End.TIMED_OUT


def test_a_caller_that_goes_away_has_its_call_ended(real: Load) -> None:
    runtime = real("endless", ENDLESS, call_s=60)

    async def play() -> None:
        executor = ThreadExecutor(1)
        batcher = Batcher(runtime, executor, max_rows=1, max_queue=9, interrupt=runtime.interrupt)
        request = InferenceRequest((Tensor("x", Datatype.FP32, rows(1)),), 1)
        call = asyncio.ensure_future(batcher.submit(request, TenantId(UUID(int=1)), Deadline.after(60)))
        await asyncio.sleep(0.1)
        call.cancel()
        async with asyncio.timeout(10):
            await batcher.drain()
        executor.close()

    asyncio.run(play())
    assert runtime.end is End.TIMED_OUT
