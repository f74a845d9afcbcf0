import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from builders.onnx_models import (
    WEIGHTS,
    branching,
    dense,
    graph,
    looping,
    model_of,
    node,
    numbers,
    shapes,
    texts,
    value,
)
from maas_gateway.errors import ArtifactRefused, InvalidRequest, ModelNotReady
from maas_gateway.inference.runtimes.catalogue import LOADERS
from maas_gateway.inference.runtimes.onnx import ONNXRuntime
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.signature import ModelSignature, TensorSpec

Ports = dict[str, tuple[Datatype, tuple[int, ...]]]
FP32, INT64, BYTES = Datatype.FP32, Datatype.INT64, Datatype.BYTES


def signature_of(inputs: Ports, outputs: Ports) -> ModelSignature:
    sides = (tuple(TensorSpec(name, *port) for name, port in side.items()) for side in (inputs, outputs))
    return ModelSignature(*sides)


DENSE = signature_of({"x": (FP32, (-1, 4))}, {"y": (FP32, (-1, 3))})


@contextlib.contextmanager
def memory_file(content: bytes) -> Iterator[int]:
    fd = os.memfd_create("model", os.MFD_CLOEXEC)
    try:
        os.write(fd, content)
        yield fd
    finally:
        os.close(fd)


def load(model: onnx.ModelProto | bytes, signature: ModelSignature = DENSE, **more: tuple[int, ...]) -> ONNXRuntime:
    content = model if isinstance(model, bytes) else model.SerializeToString()
    orders = {
        "input_order": tuple(range(len(signature.inputs))),
        "output_order": tuple(range(len(signature.outputs))),
    }
    with memory_file(content) as fd:
        return ONNXRuntime.load(fd, len(content), signature=signature, **(orders | more))


def rows(n_rows: int, width: int = 4) -> np.ndarray:
    return np.random.default_rng(n_rows).normal(size=(n_rows, width)).astype(np.float32)


def test_run_computes_the_network_for_any_number_of_rows() -> None:
    runtime = load(dense())
    for n_rows in (1, 7, 1, 64, 3):
        (y,) = runtime.run((rows(n_rows),))
        assert (y.shape, y.dtype) == ((n_rows, 3), np.float32)
        np.testing.assert_allclose(y, np.maximum(rows(n_rows) @ WEIGHTS + 1, 0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (branching, lambda x: x + 1 if x.sum() > 0 else x - 1),
        (looping, lambda x: x * 8),
        (shapes, lambda x: np.ones((len(x), 8))),
    ],
    ids=["a choice", "a loop", "a size made of shapes"],
)
def test_run_computes_control_flow_and_sizes(
    make: Callable[[], onnx.ModelProto], expected: Callable[[np.ndarray], np.ndarray]
) -> None:
    width = expected(rows(1)).shape[1]
    runtime = load(make(), signature_of({"x": (FP32, (-1, 4))}, {"y": (FP32, (-1, width))}))
    for x in (np.abs(rows(3)), -np.abs(rows(2))):
        np.testing.assert_allclose(runtime.run((x,))[0], expected(x), rtol=1e-6)


def test_texts_go_in_and_come_out_as_bytes() -> None:
    signature = signature_of({"t": (BYTES, (-1, 2))}, {"y": (INT64, (-1, 2)), "u": (BYTES, (-1, 2))})
    runtime = load(texts(), signature)
    given = np.array([[b"a", b"b"], ["ä€".encode(), b""]], dtype=object)
    numbers_, same = runtime.run((given,))
    np.testing.assert_array_equal(numbers_, [[7, 8], [-1, -1]])
    np.testing.assert_array_equal(same, given)
    assert all(type(each) is bytes for each in same.flat)
    given[0, 0] = b"\xff"
    with pytest.raises(InvalidRequest, match=r"^input 't': a text is not UTF-8"):
        runtime.run((given,))


def test_orders_map_the_signature_to_the_engines_tensors() -> None:
    nodes = [node("Add", "a a", "twice"), node("Neg", "b", "less")]
    ends = [value("a", ["n", 3]), value("b", ["n", 2])], [value("twice", ["n", 3]), value("less", ["n", 2])]
    model = model_of(graph(nodes, *ends))
    swapped = signature_of(
        {"b": (FP32, (-1, 2)), "a": (FP32, (-1, 3))}, {"less": (FP32, (-1, 2)), "twice": (FP32, (-1, 3))}
    )
    less, twice = load(model, swapped, input_order=(1, 0), output_order=(1, 0)).run((rows(2, 2), rows(2, 3)))
    np.testing.assert_array_equal(less, -rows(2, 2))
    np.testing.assert_array_equal(twice, 2 * rows(2, 3))


def test_output_is_the_callers_own_even_where_it_is_a_constant_of_the_model() -> None:
    model = dense()
    model.graph.output.append(value("w", [4, 3]))
    signature = ModelSignature(DENSE.inputs, (*DENSE.outputs, TensorSpec("w", FP32, (4, 3))))
    runtime = load(model, signature)
    first, constant = runtime.run((rows(2),))
    assert first.flags.owndata
    kept = first.copy()
    constant[:] = 0
    second, again = runtime.run((rows(2),))
    np.testing.assert_array_equal(again, WEIGHTS)
    np.testing.assert_array_equal(second, kept)
    runtime.close()
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("poison", [4, -5, 1 << 40])
def test_index_out_of_range_is_the_requests_fault_and_leaves_the_runtime_whole(poison: int) -> None:
    made = graph(
        [node("Gather", "w i", "y")],
        [value("i", ["n"], TensorProto.INT64)],
        [value("y", ["n", 3])],
        *dense().graph.initializer,
    )
    runtime = load(model_of(made), signature_of({"i": (INT64, (-1,))}, {"y": (FP32, (-1, 3))}))
    good = np.array([0, 3])
    np.testing.assert_array_equal(runtime.run((good,))[0], WEIGHTS[good])
    with pytest.raises(InvalidRequest, match="cannot compute this input"):
        runtime.run((np.array([0, poison]),))
    np.testing.assert_array_equal(runtime.run((good,))[0], WEIGHTS[good])


def test_input_that_makes_the_models_values_grow_is_refused_with_a_sentence() -> None:
    nodes = [
        node("Unsqueeze", "x first", "column"),
        node("Unsqueeze", "x second", "row"),
        node("Mul", "column row", "square"),
        node("ReduceSum", "square", "y", keepdims=0),
    ]
    made = graph(nodes, [value("x", ["n"])], [value("y", [])], numbers("first", 1), numbers("second", 0))
    runtime = load(model_of(made), signature_of({"x": (FP32, (-1,))}, {"y": (FP32, ())}))
    np.testing.assert_allclose(runtime.run((np.ones(100, np.float32),))[0], 10_000)
    with pytest.raises(InvalidRequest, match="more memory for this input than a call may take"):
        runtime.run((np.ones(20_000, np.float32),))
    np.testing.assert_allclose(runtime.run((np.ones(100, np.float32),))[0], 10_000)


@pytest.mark.parametrize(
    "array",
    [np.zeros((1, 5), np.float32), np.zeros((1, 4, 1), np.float32), np.zeros((1, 4), np.float64)],
    ids=["another width", "another rank", "another datatype"],
)
def test_array_of_another_kind_is_refused_by_the_engine_too(array: np.ndarray) -> None:
    with pytest.raises(InvalidRequest):
        load(dense()).run((array,))


def test_run_refuses_after_close_and_a_second_call_at_once() -> None:
    runtime = load(dense())
    with runtime._is_used, pytest.raises(RuntimeError, match="one call at a time"):
        runtime.run((rows(1),))
    runtime.close()
    runtime.close()
    with pytest.raises(ModelNotReady):
        runtime.run((rows(1),))


def test_close_during_a_run_lets_it_end() -> None:
    runtime = load(dense())
    (expected,) = runtime.run((rows(50_000),))
    has_answer = threading.Event()
    answers: list[np.ndarray] = []

    def work() -> None:
        with contextlib.suppress(ModelNotReady):
            while True:
                answers.append(runtime.run((rows(50_000),))[0])
                has_answer.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert has_answer.wait(20)
    runtime.close()
    thread.join(20)
    assert not thread.is_alive()
    for answer in answers:
        np.testing.assert_array_equal(answer, expected)


def test_engine_keeps_no_file_open() -> None:
    load(dense())  # what the library opens once is open now
    before = open_files()
    runtime = load(dense())
    runtime.run((rows(8),))
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
        (signature_of({"x": (FP32, (-1, 5))}, {"y": (FP32, (-1, 3))}), {}),
        (signature_of({"x": (FP32, (-1, 4, 1))}, {"y": (FP32, (-1, 3))}), {}),
        (signature_of({"x": (FP32, (-1, 4))}, {"y": (FP32, (-1, 2))}), {}),
        (signature_of({"x": (Datatype.FP64, (-1, 4))}, {"y": (FP32, (-1, 3))}), {}),
        (signature_of({"x": (FP32, (-1, 4)), "z": (FP32, (-1, 4))}, {"y": (FP32, (-1, 3))}), {}),
        (DENSE, {"input_order": (1,)}),
        (DENSE, {"output_order": ()}),
    ],
    ids=["width", "rank", "output width", "datatype", "number of inputs", "order out of range", "order too short"],
)
def test_load_refuses_a_model_that_differs_from_its_signature_in(
    signature: ModelSignature, more: dict[str, tuple[int, ...]]
) -> None:
    with pytest.raises(ArtifactRefused):
        load(dense(), signature, **more)


def test_load_refuses_bytes_that_are_no_model_and_a_file_of_another_size() -> None:
    with pytest.raises(ArtifactRefused, match="cannot load"):
        load(b"\0" * 4096)
    content = dense().SerializeToString()
    with memory_file(content) as fd, pytest.raises(ArtifactRefused, match="size"):
        ONNXRuntime.load(fd, len(content) - 1, signature=DENSE, input_order=(0,), output_order=(0,))


def test_load_refuses_weights_in_another_file_by_itself(tmp_path: Path) -> None:
    model = dense()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(48))
    tensor.external_data.add(key="location", value=str(secret))
    with pytest.raises(ArtifactRefused):
        load(model)


def test_catalogue_names_the_onnx_plan() -> None:
    assert LOADERS["onnx"] == ONNXRuntime.load
