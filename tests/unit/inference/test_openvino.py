"""The engine of an optional extra, as a worker process has it."""

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from builders.onnx_models import WEIGHTS, branching, dense, graph, looping, model_of, node, shapes, texts, value
from maas_gateway.errors import ArtifactRefused, InvalidRequest, ModelNotReady
from maas_gateway.inference.confined import content_loader
from maas_gateway.inference.runtimes import openvino
from maas_gateway.inference.runtimes.catalogue import LOADERS
from maas_gateway.inference.runtimes.openvino import OpenVINORuntime
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.signature import ModelSignature, TensorSpec

FP32 = Datatype.FP32
DENSE = ModelSignature((TensorSpec("x", FP32, (-1, 4)),), (TensorSpec("y", FP32, (-1, 3)),))


def load(model: onnx.ModelProto | bytes, signature: ModelSignature = DENSE, **more: tuple[int, ...]) -> OpenVINORuntime:
    content = model if isinstance(model, bytes) else model.SerializeToString()
    orders = {
        "input_order": tuple(range(len(signature.inputs))),
        "output_order": tuple(range(len(signature.outputs))),
    }
    return OpenVINORuntime.load_content(content, signature=signature, **(orders | more))


def rows(n_rows: int, width: int = 4) -> np.ndarray:
    return np.random.default_rng(n_rows).normal(size=(n_rows, width)).astype(np.float32)


def test_run_computes_the_network_for_any_number_of_rows_and_each_answer_is_the_callers_own() -> None:
    runtime = load(dense())
    kept = []
    for n_rows in (1, 7, 1, 64, 0, 3):
        (y,) = runtime.run((rows(n_rows),))
        assert (y.shape, y.dtype, y.flags.owndata) == ((n_rows, 3), np.float32, True)
        kept.append((n_rows, y))
    runtime.close()
    for n_rows, y in kept:
        np.testing.assert_allclose(y, np.maximum(rows(n_rows) @ WEIGHTS + 1, 0), rtol=1e-5, atol=1e-6)


def test_run_takes_an_array_that_must_not_be_written_to() -> None:
    x = rows(2)
    x.flags.writeable = False
    np.testing.assert_allclose(load(dense()).run((x,))[0], np.maximum(x @ WEIGHTS + 1, 0), rtol=1e-5, atol=1e-6)


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
    signature = ModelSignature((TensorSpec("x", FP32, (-1, 4)),), (TensorSpec("y", FP32, (-1, width)),))
    runtime = load(make(), signature)
    for x in (np.abs(rows(3)), -np.abs(rows(2))):
        np.testing.assert_allclose(runtime.run((x,))[0], expected(x), rtol=1e-6)


def test_orders_map_the_signature_to_the_engines_tensors() -> None:
    nodes = [node("Add", "a a", "twice"), node("Neg", "b", "less")]
    ends = [value("a", ["n", 3]), value("b", ["n", 2])], [value("twice", ["n", 3]), value("less", ["n", 2])]
    swapped = ModelSignature(
        (TensorSpec("b", FP32, (-1, 2)), TensorSpec("a", FP32, (-1, 3))),
        (TensorSpec("less", FP32, (-1, 2)), TensorSpec("twice", FP32, (-1, 3))),
    )
    runtime = load(model_of(graph(nodes, *ends)), swapped, input_order=(1, 0), output_order=(1, 0))
    less, twice = runtime.run((rows(2, 2), rows(2, 3)))
    np.testing.assert_array_equal(less, -rows(2, 2))
    np.testing.assert_array_equal(twice, 2 * rows(2, 3))


@pytest.mark.parametrize(
    "array",
    [np.zeros((1, 5), np.float32), np.zeros((1, 4, 1), np.float32), np.zeros((1, 4), np.float64)],
    ids=["another width", "another rank", "another datatype"],
)
def test_array_of_another_kind_is_refused_by_the_engine_and_leaves_the_runtime_whole(array: np.ndarray) -> None:
    runtime = load(dense())
    with pytest.raises(InvalidRequest, match="cannot compute this input"):
        runtime.run((array,))
    assert runtime.run((rows(2),))[0].shape == (2, 3)


@pytest.mark.parametrize(
    ("signature", "more"),
    [
        (ModelSignature((TensorSpec("x", FP32, (-1, 5)),), DENSE.outputs), {}),
        (ModelSignature((TensorSpec("x", FP32, (-1, 4, 1)),), DENSE.outputs), {}),
        (ModelSignature(DENSE.inputs, (TensorSpec("y", FP32, (-1, 2)),)), {}),
        (ModelSignature((TensorSpec("x", Datatype.FP64, (-1, 4)),), DENSE.outputs), {}),
        (ModelSignature((*DENSE.inputs, TensorSpec("z", FP32, (-1, 4))), DENSE.outputs), {}),
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


@pytest.mark.parametrize("content", [b"\0" * 4096, texts().SerializeToString()], ids=["no model", "texts"])
def test_load_refuses_what_the_engine_does_not_read(content: bytes) -> None:
    with pytest.raises(ArtifactRefused, match="cannot load"):
        load(content)


def test_load_says_how_to_install_the_engine_where_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "find_spec", lambda _name: None)
    with pytest.raises(ArtifactRefused, match="install it with the extra 'openvino'"):
        load(dense())


def test_index_out_of_range_reads_nothing_but_the_models_own_rows() -> None:
    made = graph(
        [node("Gather", "w i", "y")],
        [value("i", ["n"], TensorProto.INT64)],
        [value("y", ["n", 3])],
        *dense().graph.initializer,
    )
    signature = ModelSignature((TensorSpec("i", Datatype.INT64, (-1,)),), (TensorSpec("y", FP32, (-1, 3)),))
    runtime = load(model_of(made), signature)
    known = {tuple(row) for row in (*WEIGHTS.astype(np.float32).tolist(), [0.0, 0.0, 0.0])}
    for place in (4, -5, 1 << 31, 1 << 40, -(1 << 63)):
        with contextlib.suppress(InvalidRequest):
            assert {tuple(row) for row in runtime.run((np.array([place]),))[0].tolist()} <= known


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


def test_no_telemetry_is_loaded_and_none_can_be() -> None:
    """In a process of its own: what another test has imported does not count."""
    program = (
        "import sys; from maas_gateway.inference.runtimes import openvino as o\n"
        "from builders.onnx_models import dense; o.compile_model(dense().SerializeToString())\n"
        "found = [n for n, m in sys.modules.items() if m is not None and ('telemetry' in n or 'tools' in n and n.startswith('openvino'))]\n"
        "assert not found, found\n"
        "try: import openvino_telemetry\nexcept ImportError: print('none')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env={"PYTHONPATH": "tests"}
    )
    assert (ran.returncode, ran.stdout.strip()) == (0, "none"), ran.stderr


def test_only_confined_processes_have_it() -> None:
    assert "openvino" not in LOADERS
    assert content_loader("openvino") == OpenVINORuntime.load_content
