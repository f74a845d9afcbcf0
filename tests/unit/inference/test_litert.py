import asyncio
import contextlib
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from maas_gateway.clock import Deadline
from maas_gateway.errors import ArtifactRefused, InvalidRequest, ModelNotReady
from maas_gateway.identifiers import TenantId
from maas_gateway.inference.batcher import Batcher
from maas_gateway.inference.runtimes.catalogue import LOADERS
from maas_gateway.inference.runtimes.litert import LiteRTRuntime
from maas_gateway.inference.threads import ThreadExecutor
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.inference import InferenceRequest
from maas_gateway.tensors.signature import ModelSignature, TensorSpec
from maas_gateway.tensors.tensor import Tensor

Shapes = dict[str, tuple[int, ...]]
Load = Callable[..., LiteRTRuntime]


def signature_of(inputs: Shapes, outputs: Shapes, datatype: Datatype = Datatype.FP32) -> ModelSignature:
    return ModelSignature(
        tuple(TensorSpec(name, datatype, shape) for name, shape in inputs.items()),
        tuple(TensorSpec(name, Datatype.FP32, shape) for name, shape in outputs.items()),
    )


SEED = signature_of({"x": (-1, 30)}, {"y": (-1, 1)})
EMBEDDING = signature_of({"ids": (-1, 4)}, {"sum": (-1, 3)}, Datatype.INT32)


def memory_file(content: bytes) -> int:
    fd = os.memfd_create("model", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.write(fd, content)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return fd


def load_bytes(content: bytes, signature: ModelSignature, **more: tuple[int, ...]) -> LiteRTRuntime:
    orders = {
        "input_order": tuple(range(len(signature.inputs))),
        "output_order": tuple(range(len(signature.outputs))),
    }
    fd = memory_file(content)
    try:
        return LiteRTRuntime.load(fd, len(content), signature=signature, **(orders | more))
    finally:
        os.close(fd)


@pytest.fixture
def load(flatbuffers: Path) -> Load:
    def load(name: str, signature: ModelSignature, **more: tuple[int, ...]) -> LiteRTRuntime:
        return load_bytes((flatbuffers / f"{name}.tflite").read_bytes(), signature, **more)

    return load


def rows(n_rows: int, width: int = 30, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n_rows, width)).astype(np.float32)


def test_run_computes_the_network_for_any_number_of_rows(load: Load, flatbuffers: Path) -> None:
    runtime = load("seed", SEED)
    stored = np.load(flatbuffers / "seed.npz")
    first, second, third = (stored[name] for name in stored.files)
    for n_rows in (1, 7, 1, 64, 3, 3):
        x = rows(n_rows, seed=n_rows)
        hidden = np.maximum(np.maximum(x @ first, 0) @ second, 0)
        (y,) = runtime.run((x,))
        assert y.shape == (n_rows, 1)
        assert y.dtype == np.float32
        np.testing.assert_allclose(y, 1 / (1 + np.exp(-(hidden @ third))), rtol=1e-5)


def test_output_is_the_callers_own_after_the_next_run_and_close(load: Load) -> None:
    runtime = load("seed", SEED)
    (y,) = runtime.run((rows(2),))
    kept = y.copy()
    runtime.run((rows(2, seed=5),))
    runtime.close()
    assert y.flags.owndata or y.base is None
    np.testing.assert_array_equal(y, kept)


def test_orders_map_the_signature_to_the_engines_tensors(load: Load) -> None:
    a, b = rows(4, 3), rows(4, 2, seed=1)
    straight = signature_of({"a": (-1, 3), "b": (-1, 2)}, {"product": (-1, 3), "less": (-1, 2)})
    swapped = ModelSignature(straight.inputs[::-1], straight.outputs[::-1])
    product, less = load("pair", straight).run((a, b))
    np.testing.assert_allclose(product, a * b.sum(axis=1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(less, b - 1, rtol=1e-6)
    less_again, product_again = load("pair", swapped, input_order=(1, 0), output_order=(1, 0)).run((b, a))
    np.testing.assert_array_equal(product, product_again)
    np.testing.assert_array_equal(less, less_again)


def test_model_without_batch_dimension_runs(load: Load) -> None:
    runtime = load("fixed", signature_of({"x": (2, 3)}, {"sum": (), "more": (2, 3)}))
    x = rows(2, 3)
    for _ in range(2):
        total, more = runtime.run((x,))
        assert isinstance(total, np.ndarray)
        assert total.shape == ()
        np.testing.assert_allclose(total, x.sum(), rtol=1e-5)
        np.testing.assert_allclose(more, x + 1, rtol=1e-6)


def test_model_with_free_inner_dimension_runs_with_changing_shapes(load: Load) -> None:
    runtime = load("ragged", signature_of({"x": (-1, -1)}, {"sum": (-1, 1)}))
    for shape in ((1, 5), (4, 2), (4, 9), (1, 5)):
        x = rows(*shape)
        np.testing.assert_allclose(runtime.run((x,))[0], x.sum(axis=1, keepdims=True), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("poison", [10, -1, 2**31 - 1, -(2**31)])
def test_index_out_of_range_is_the_requests_fault_and_leaves_the_runtime_whole(load: Load, poison: int) -> None:
    runtime = load("embedding", EMBEDDING)
    good = np.array([[0, 1, 2, 9]], dtype=np.int32)
    expected = np.arange(30, dtype=np.float32).reshape(10, 3)[good[0]].sum(axis=0)[None]
    np.testing.assert_array_equal(runtime.run((good,))[0], expected)
    bad = good.copy()
    bad[0, 2] = poison
    with pytest.raises(InvalidRequest, match="cannot compute this input"):
        runtime.run((bad,))
    np.testing.assert_array_equal(runtime.run((good,))[0], expected)


@pytest.mark.parametrize(
    "array",
    [np.zeros((1, 29), np.float32), np.zeros((1, 30, 1), np.float32), np.zeros((1, 30), np.float64)],
    ids=["another width", "another rank", "another datatype"],
)
def test_array_of_another_kind_is_refused_by_the_engine_too(load: Load, array: np.ndarray) -> None:
    runtime = load("seed", SEED)
    expected = runtime.run((rows(1),))[0]
    with pytest.raises(InvalidRequest):
        runtime.run((array,))
    np.testing.assert_array_equal(runtime.run((rows(1),))[0], expected)


def test_shapes_refused_half_way_are_not_taken_for_those_of_the_call_before(load: Load) -> None:
    runtime = load("pair", signature_of({"a": (-1, 3), "b": (-1, 2)}, {"product": (-1, 3), "less": (-1, 2)}))
    good = rows(2, 3), rows(2, 2)
    expected = runtime.run(good)
    with pytest.raises(InvalidRequest):
        runtime.run((rows(5, 3), rows(5, 9)))
    for before, after in zip(expected, runtime.run(good), strict=True):
        np.testing.assert_array_equal(before, after)


def test_run_refuses_after_close(load: Load) -> None:
    runtime = load("seed", SEED)
    runtime.close()
    runtime.close()
    with pytest.raises(ModelNotReady):
        runtime.run((rows(1),))


def test_close_during_a_run_lets_it_end(load: Load) -> None:
    runtime = load("seed", SEED)
    x = rows(4096)
    (expected,) = runtime.run((x,))
    answers, failures = [], []

    def work() -> None:
        try:
            while True:
                answers.append(runtime.run((x,))[0])
                has_answer.set()
        except ModelNotReady as error:
            failures.append(error)

    has_answer = threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    assert has_answer.wait(20)
    runtime.close()
    thread.join(20)
    assert len(failures) == 1
    for answer in answers:
        np.testing.assert_array_equal(answer, expected)


def test_second_call_at_once_is_refused_and_not_mixed(load: Load) -> None:
    runtime = load("seed", SEED)
    with runtime._is_used, pytest.raises(RuntimeError, match="one call at a time"):
        runtime.run((rows(1),))
    runtime.run((rows(1),))


def test_model_is_reached_by_no_file_no_child_and_nothing_after_close(flatbuffers: Path) -> None:
    content = (flatbuffers / "seed.tflite").read_bytes()
    load_bytes(content, SEED).close()  # what the library opens once is open now
    before = open_files()
    runtime = load_bytes(content, SEED)
    runtime.run((rows(8),))
    added = {fd: target for fd, target in open_files().items() if before.get(fd) != target}
    assert all(target.startswith("/memfd:") for target in added.values())
    assert not any(os.get_inheritable(fd) for fd in added)
    runtime.close()
    assert open_files() == before


def open_files() -> dict[int, str]:
    found = {}
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the descriptor that listed them
            found[int(link.name)] = str(link.readlink())
    return found


@pytest.mark.parametrize(
    ("signature", "more"),
    [
        (signature_of({"x": (-1, 31)}, {"y": (-1, 1)}), {}),
        (signature_of({"x": (-1, 30, 1)}, {"y": (-1, 1)}), {}),
        (signature_of({"x": (-1, 30)}, {"y": (-1, 2)}), {}),
        (signature_of({"x": (-1, 30)}, {"y": (-1, 1)}, Datatype.FP64), {}),
        (signature_of({"x": (-1, 30), "z": (-1, 30)}, {"y": (-1, 1)}), {}),
        (SEED, {"input_order": (1,)}),
        (SEED, {"output_order": ()}),
    ],
    ids=["width", "rank", "output width", "datatype", "number of inputs", "order out of range", "order too short"],
)
def test_load_refuses_a_model_that_differs_from_its_signature_in(
    load: Load, signature: ModelSignature, more: dict[str, tuple[int, ...]]
) -> None:
    with pytest.raises(ArtifactRefused):
        load("seed", signature, **more)


def test_load_refuses_bytes_that_are_no_model() -> None:
    with pytest.raises(ArtifactRefused):
        load_bytes(b"\0" * 4096, SEED)


def test_load_refuses_a_file_of_another_size(flatbuffers: Path) -> None:
    content = (flatbuffers / "seed.tflite").read_bytes()
    fd = memory_file(content)
    with pytest.raises(ArtifactRefused, match="size"):
        LiteRTRuntime.load(fd, len(content) - 1, signature=SEED, input_order=(0,), output_order=(0,))
    os.close(fd)


def test_engine_is_imported_when_a_model_is_loaded_and_brings_no_tensorflow(flatbuffers: Path) -> None:
    program = """
import os, sys
from maas_gateway.inference.runtimes.catalogue import LOADERS
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.signature import ModelSignature, TensorSpec
assert not {"ai_edge_litert", "onnxruntime"} & set(sys.modules)
content = open(sys.argv[1], "rb").read()
fd = os.memfd_create("model")
os.write(fd, content)
signature = ModelSignature((TensorSpec("x", Datatype.FP32, (-1, 30)),), (TensorSpec("y", Datatype.FP32, (-1, 1)),))
runtime = LOADERS["litert"](fd, len(content), signature=signature, input_order=(0,), output_order=(0,))
os.close(fd)
import numpy
assert runtime.run((numpy.zeros((2, 30), "f4"),))[0].shape == (2, 1)
assert "ai_edge_litert" in sys.modules
assert not [name for name in sys.modules if name.split(".")[0] in ("tensorflow", "keras", "jax", "torch")]
"""
    path = str(flatbuffers / "seed.tflite")
    done = subprocess.run(
        [sys.executable, "-c", program, path], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_answers_of_a_shared_batch_are_those_of_each_request_alone(load: Load) -> None:
    async def go() -> list[tuple[Tensor, ...]]:
        executor = ThreadExecutor(1)
        batcher = Batcher(load("seed", SEED), executor, max_rows=16, max_queue=64)
        asked = [InferenceRequest((Tensor.of("x", array),), len(array)) for array in arrays]
        tenant = TenantId(UUID(int=1))
        answers = await asyncio.gather(*[batcher.submit(each, tenant, Deadline.after(60)) for each in asked])
        await batcher.drain()
        executor.close()
        assert batcher.counts.n_batches < len(arrays)
        return answers

    arrays = [rows(1 + seed % 4, seed=seed) for seed in range(20)] + [rows(50)]
    alone = load("seed", SEED)
    for array, (answer,) in zip(arrays, asyncio.run(go()), strict=True):
        assert answer.name == "y"
        np.testing.assert_allclose(answer.array, alone.run((array,))[0], rtol=1e-5)


def test_catalogue_names_the_plans_that_run_on_threads() -> None:
    assert {"litert", "onnx"} <= set(LOADERS)
