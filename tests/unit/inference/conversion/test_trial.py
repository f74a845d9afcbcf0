"""Uploads that are their own plan: tried in this process where that is quick, and once in the confined child."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from builders.hostile_tflite import choosing, looping
from builders.onnx_models import branching, dense, graph, model_of, node, scalar, shapes, texts, value
from builders.onnx_models import looping as looping_onnx
from maas_gateway.confinement.child import run_child
from maas_gateway.confinement.conversation import ChildAnswer
from maas_gateway.confinement.failure import ChildFailed
from maas_gateway.confinement.limits import Limits
from maas_gateway.inference.conversion.onnx_child import try_model
from maas_gateway.inference.conversion.refusal import NotConvertible
from maas_gateway.inference.conversion.tflite_child import try_file
from maas_gateway.inference.conversion.trial import (
    Array,
    CannotCompute,
    Declared,
    Outcome,
    Shape,
    try_out,
    unique_names,
)
from maas_gateway.tensors.datatypes import Datatype
from unit.scanning.tflite_files import model as straight
from unit.scanning.tflite_files import write


def _try(make: Callable[[], onnx.ModelProto]) -> Outcome:
    return try_model(make().SerializeToString())


@pytest.mark.parametrize(
    ("make", "outputs"),
    [
        (dense, [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]),
        (branching, [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}]),
        (looping_onnx, [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}]),
        (shapes, [{"name": "y", "datatype": "FP32", "shape": [-1, 8]}]),
        (
            texts,
            [
                {"name": "y", "datatype": "INT64", "shape": [-1, 2]},
                {"name": "u", "datatype": "BYTES", "shape": [-1, 2]},
            ],
        ),
    ],
)
def test_onnx_model_is_its_own_plan(make: Callable[[], onnx.ModelProto], outputs: list[dict[str, object]]) -> None:
    header: Any = _try(make).header("onnx")
    assert header["signature"]["outputs"] == outputs
    assert [plan["runtime"] for plan in header["plans"]] == ["onnx", "openvino"][: 1 if make is texts else 2]
    for plan in header["plans"]:
        assert (plan["n_bytes"], plan["input_order"], plan["output_order"]) == (0, [0], list(range(len(outputs))))
        assert plan["max_relative_error"] <= plan["tolerance"] == 1e-5
        assert plan["took_us"] > 0
    assert header["n_compared"] > 0


def test_output_without_a_declared_shape_gets_the_one_that_was_seen() -> None:
    model = dense()
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert _try(lambda: model).outputs == [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]


def test_dimensions_of_one_name_are_of_one_size_and_inner_free_ones_are_tried() -> None:
    made = graph([node("MatMul", "a b", "y")], [value("a", ["n", "k"]), value("b", ["k", 3])], [value("y", ["n", 3])])
    outcome = try_model(model_of(made).SerializeToString())
    assert [port["shape"] for port in outcome.inputs] == [[-1, -1], [-1, 3]]


def test_integers_are_tried_until_they_suit_a_table() -> None:
    table = helper.make_tensor("t", TensorProto.FLOAT, [2, 3], range(6))
    ends = [value("i", ["n"], TensorProto.INT64)], [value("y", ["n", 3])]
    assert try_model(model_of(graph([node("Gather", "t i", "y")], *ends, table)).SerializeToString()).n_compared > 0


def test_model_of_a_fixed_batch_keeps_it() -> None:
    model = dense()
    for port in (model.graph.input[0], model.graph.output[0]):
        port.type.tensor_type.shape.dim[0].ClearField("dim_param")
        port.type.tensor_type.shape.dim[0].dim_value = 2
    outcome = _try(lambda: model)
    assert (outcome.inputs[0]["shape"], outcome.outputs[0]["shape"]) == ([2, 4], [2, 3])


def _undeclared(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.ClearField("shape")


def _other_width(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7


def _unknown_attribute(model: onnx.ModelProto) -> None:
    model.graph.node[2].attribute.append(helper.make_attribute("no_such", 1))


def _rows_by_value(model: onnx.ModelProto) -> None:
    model.graph.node.append(node("NonZero", "y", "z"))
    model.graph.node.append(node("Transpose", "z", "t"))
    model.graph.output.append(value("t", ["m", 2], TensorProto.INT64))


def _foreign(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.microsoft"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_undeclared, "does not declare its shape"),
        (_other_width, "load|another datatype or shape"),
        (_unknown_attribute, "the engine cannot load it: "),
        (_rows_by_value, "one row for each row"),
        (_foreign, "custom-domain"),
    ],
    ids=["no shape", "another width than declared", "an unknown attribute", "rows by value", "a foreign operator"],
)
def test_onnx_model_is_refused_with_its_reason_for(change: Callable[[onnx.ModelProto], None], reason: str) -> None:
    model = dense()
    change(model)
    with pytest.raises(NotConvertible, match=reason):
        _try(lambda: model)


def test_model_that_no_input_suits_is_refused_in_the_engines_words() -> None:
    nodes = [node("Reshape", "x s", "y")]
    made = graph(
        nodes, [value("x", ["n", 4])], [value("y", None)], helper.make_tensor("s", TensorProto.INT64, [1], [7])
    )
    with pytest.raises(NotConvertible, match="computes no input drawn from"):
        try_model(model_of(made).SerializeToString())


_X = [Declared("x", Datatype.FP32, (None, 2))]


def _engine(factor: float) -> Callable[[tuple[Array, ...]], tuple[Array, ...]]:
    return lambda arrays: (arrays[0] * np.float32(factor),)


def _output(shape: Shape | None = (None, 2)) -> list[Declared]:
    return [Declared("y", Datatype.FP32, shape)]


def test_difference_is_relative_to_the_largest_value_and_bounded() -> None:
    assert try_out(_X, _output(), _engine(1), _engine(1)).max_relative_error == 0.0
    outcome = try_out(_X, _output(), _engine(1 + 3e-6), _engine(1))
    assert 1e-6 < outcome.max_relative_error < 1e-5
    with pytest.raises(NotConvertible, match="differs by"):
        try_out(_X, _output(), _engine(1 + 1e-4), _engine(1))


def test_engine_that_answers_otherwise_the_second_time_is_refused() -> None:
    factors = iter(range(1, 1000))
    with pytest.raises(NotConvertible, match="differs from call to call"):
        try_out(_X, _output(), lambda arrays: (arrays[0] * np.float32(next(factors)),), _engine(1))


def test_infinity_where_the_reference_has_none_is_refused() -> None:
    with pytest.raises(NotConvertible, match="infinite"):
        try_out(_X, _output(), _engine(np.inf), _engine(1))


def test_free_sizes_that_do_not_suit_are_left_out() -> None:
    seen: set[int] = set()

    def picky(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        if arrays[0].shape[1] % 32:
            raise CannotCompute("a multiple of 32")
        seen.add(arrays[0].shape[1])
        return arrays

    try_out([Declared("x", Datatype.FP32, (None, None))], _output((None, None)), picky, picky)
    assert seen == {32, 64}


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["a", "b"], ["a", "b"]), (["a", "a", "a_1"], ["a", "a_2", "a_1"]), (["", ""], ["tensor", "tensor_1"])],
)
def test_names_are_made_unique(names: Sequence[str], expected: list[str]) -> None:
    assert unique_names(names) == expected


@pytest.mark.parametrize(
    ("content", "inputs"),
    [(write(straight()), [[-1, 2]]), (write(looping()), [[1]]), (write(choosing()), [[1], [1, 2]])],
    ids=["straight", "a loop", "a choice"],
)
def test_tflite_file_is_its_own_plan(content: bytes, inputs: list[list[int]]) -> None:
    outcome = try_file(content)
    assert [port["shape"] for port in outcome.inputs] == inputs
    assert outcome.max_relative_error == 0.0
    header: Any = outcome.header("litert")
    assert header["plans"][0]["runtime"] == "litert"


def test_tflite_file_that_does_not_load_is_refused() -> None:
    with pytest.raises(NotConvertible, match="cannot load"):
        try_file(b"\0" * 64)


def _in_child(
    module: str, content: bytes, *, size_bytes: int | None = None, limits: Limits | None = None
) -> ChildAnswer:
    return asyncio.run(
        run_child(
            f"maas_gateway.inference.conversion.{module}",
            limits=limits or Limits(),
            deadline_s=60,
            request=[content[:100], content[100:]],
            arguments={"sample_bytes": 0, "size_bytes": len(content) if size_bytes is None else size_bytes},
        )
    )


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("module", "content"),
    [("onnx_child", dense().SerializeToString()), ("tflite_child", write(straight()))],
)
def test_confined_child_answers_for_the_upload(module: str, content: bytes) -> None:
    answer = _in_child(module, content)
    assert answer.payload == b""
    plans: Any = answer.header["plans"]
    assert plans[0]["n_bytes"] == 0
    assert "announced" in str(_in_child(module, content, size_bytes=10).header["refused"])


@pytest.mark.thorough
def test_confined_child_survives_a_model_that_grows_without_end() -> None:
    nodes = [node("Unsqueeze", "x first", "v0")]
    for level in range(6):
        nodes += [
            node("Reshape", f"v{level} column", f"c{level}"),
            node("Reshape", f"v{level} row", f"r{level}"),
            node("Mul", f"c{level} r{level}", f"v{level + 1}"),
        ]
    nodes.append(node("ReduceSum", "v6", "y", keepdims=0))
    constants = (
        helper.make_tensor("column", TensorProto.INT64, [2], [-1, 1]),
        helper.make_tensor("row", TensorProto.INT64, [2], [1, -1]),
        scalar("first", 0),
    )
    made = model_of(graph(nodes, [value("x", ["n", 4])], [value("y", [])], *constants))
    answer = _in_child("onnx_child", made.SerializeToString())
    assert "no input drawn from" in str(answer.header["refused"])


@pytest.mark.thorough
def test_confined_child_that_never_ends_is_ended() -> None:
    made = looping()
    made["subgraphs"][2]["operators"][0]["inputs"] = [0, 0]  # below zero, twice as much stays below ten
    with pytest.raises(ChildFailed, match=r"processor time|within"):
        _in_child("tflite_child", write(made), limits=Limits(cpu_s=2))
