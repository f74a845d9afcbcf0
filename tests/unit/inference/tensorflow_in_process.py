"""The runtime of frozen graphs: answers by shape and order, texts, faults, and nothing that stays behind.

These tests load TensorFlow, so `test_tensorflow` has a program of its own run them.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from builders.tf_models import FLOAT, Fields, calls, constant, encode, frozen_graph, node, shape
from maas_gateway.errors import ArtifactRefused, InvalidRequest, ModelNotReady
from maas_gateway.inference.runtimes.tensorflow import TensorFlowRuntime
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.signature import ModelSignature, TensorSpec

pytestmark = pytest.mark.loads_tensorflow


def signature(
    inputs: dict[str, tuple[int, ...]], outputs: dict[str, tuple[int, ...]], datatype: Datatype = Datatype.FP32
) -> ModelSignature:
    return ModelSignature(
        tuple(TensorSpec(name, datatype, sizes) for name, sizes in inputs.items()),
        tuple(TensorSpec(name, datatype, sizes) for name, sizes in outputs.items()),
    )


ONE = signature({"x": (-1, 4)}, {"y": (-1, 4)})


def load(
    content: bytes, taken: ModelSignature, *, size_bytes: int | None = None, **orders: tuple[int, ...]
) -> TensorFlowRuntime:
    fd = os.memfd_create("graph")
    try:
        os.write(fd, content)
        given = {
            "input_order": tuple(range(len(taken.inputs))),
            "output_order": tuple(range(len(taken.outputs))),
        }
        return TensorFlowRuntime.load(
            fd, len(content) if size_bytes is None else size_bytes, signature=taken, **(given | orders)
        )
    finally:
        os.close(fd)


def graph(*nodes: Fields) -> bytes:
    return encode("GraphDef", {"versions": {"producer": 2474}, "node": list(nodes)})


def placeholder(number: int, dtype: int, *sizes: int) -> Fields:
    return node(f"input_{number}", "Placeholder", dtype={"type": dtype}, shape={"shape": shape(*sizes)})


def output(number: int, source: str, dtype: int = FLOAT) -> Fields:
    return node(f"output_{number}", "Identity", source, T={"type": dtype})


def test_runtime_computes_any_number_of_rows() -> None:
    runtime = load(encode("GraphDef", frozen_graph()), ONE)
    for n_rows in (1, 7, 1, 32):
        x = np.random.default_rng(n_rows).normal(size=(n_rows, 4)).astype(np.float32)
        (y,) = runtime.run((x,))
        np.testing.assert_array_equal(y, x + x)
        assert y.flags.owndata


def test_orders_map_the_signature_to_the_graphs_numbers() -> None:
    content = graph(
        placeholder(0, FLOAT, -1, 2),
        placeholder(1, FLOAT, -1, 3),
        output(0, "input_0"),
        output(1, "input_1"),
    )
    taken = signature({"b": (-1, 3), "a": (-1, 2)}, {"bb": (-1, 3), "aa": (-1, 2)})
    runtime = load(content, taken, input_order=(1, 0), output_order=(1, 0))
    b, a = np.ones((2, 3), np.float32), np.zeros((2, 2), np.float32)
    for want, got in zip((b, a), runtime.run((b, a)), strict=True):
        np.testing.assert_array_equal(want, got)


def test_two_models_keep_their_functions_apart() -> None:
    doubling = frozen_graph()
    squaring = frozen_graph()
    squaring["library"]["function"][0]["node_def"][0]["op"] = "Mul"
    x = np.full((1, 4), 3, np.float32)
    first, second = (load(encode("GraphDef", graph_def), ONE) for graph_def in (doubling, squaring))
    for _ in range(2):
        np.testing.assert_array_equal(first.run((x,))[0], x + x)
        np.testing.assert_array_equal(second.run((x,))[0], x * x)


def test_texts_go_in_and_come_out_as_bytes() -> None:
    content = graph(placeholder(0, 7, -1), node("n0", "StringUpper", "input_0"), output(0, "n0", 7))
    runtime = load(content, signature({"x": (-1,)}, {"y": (-1,)}, Datatype.BYTES))
    (y,) = runtime.run((np.array([b"ab", b"", "é".encode()], np.object_),))
    assert y.tolist() == [b"AB", b"", "é".encode()]
    assert y.dtype == np.object_


def test_a_fault_is_the_requests_and_the_next_call_is_answered() -> None:
    content = graph(
        placeholder(0, 3, -1),
        constant("n0", FLOAT, (3,), tensor_content=np.array([1, 2, 3], np.float32).tobytes()),
        constant("n1", 3, (), int_val=[0]),
        node("n2", "GatherV2", "n0", "input_0", "n1", Tparams={"type": FLOAT}, Tindices={"type": 3}, Taxis={"type": 3}),
        output(0, "n2"),
    )
    taken = ModelSignature((TensorSpec("i", Datatype.INT32, (-1,)),), (TensorSpec("y", Datatype.FP32, (-1,)),))
    runtime = load(content, taken)
    with pytest.raises(InvalidRequest, match="cannot compute this input"):
        runtime.run((np.array([9], np.int32),))
    np.testing.assert_array_equal(runtime.run((np.array([2, 0], np.int32),))[0], [3, 1])
    with pytest.raises(InvalidRequest):
        runtime.run((np.array([1.0], np.float32),))


def test_runtime_refuses_after_close() -> None:
    runtime = load(encode("GraphDef", frozen_graph()), ONE)
    runtime.close()
    runtime.close()
    with pytest.raises(ModelNotReady):
        runtime.run((np.zeros((1, 4), np.float32),))


@pytest.mark.parametrize(
    ("content", "taken"),
    [
        pytest.param(b"\xff\xff", ONE, id="no graph at all"),
        pytest.param(encode("GraphDef", {"node": [node("a", "Nowhere")]}), ONE, id="an unknown operator"),
        pytest.param(graph(placeholder(0, FLOAT, -1, 4)), ONE, id="no outputs"),
        pytest.param(graph(output(0, "input_0"), placeholder(0, FLOAT, -1, 5)), ONE, id="another shape"),
        pytest.param(graph(output(0, "input_0", 2), placeholder(0, 2, -1, 4)), ONE, id="another datatype"),
        pytest.param(
            encode("GraphDef", frozen_graph()),
            signature({"x": (-1, 4), "z": (-1, 4)}, {"y": (-1, 4)}),
            id="an input more in the signature",
        ),
        pytest.param(
            graph(
                placeholder(0, FLOAT, -1, 4), node("n0", "PartitionedCall", "input_0", f=calls("f9")), output(0, "n0")
            ),
            ONE,
            id="a function that is not there",
        ),
    ],
)
def test_load_refuses(content: bytes, taken: ModelSignature) -> None:
    with pytest.raises(ArtifactRefused):
        load(content, taken)


def test_load_refuses_another_size() -> None:
    with pytest.raises(ArtifactRefused, match="size"):
        load(encode("GraphDef", frozen_graph()), ONE, size_bytes=7)


def test_load_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    load(encode("GraphDef", frozen_graph()), ONE).run((np.zeros((1, 4), np.float32),))
    assert list(tmp_path.iterdir()) == []
