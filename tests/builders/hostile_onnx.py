"""ONNX files that must not pass: each named, harmless in what it would do, with the rule and place of its finding."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import TensorProto, helper

from builders.onnx_models import branching, dense, graph, model_of, node, numbers, one, scalar, texts, value

_GRAPH = "ModelProto.graph[0]"
_NODE = f"{_GRAPH}.node[0]"


@dataclass(frozen=True)
class Hostile:
    """A file to refuse.

    Attributes:
        name: what is wrong with it.
        build: makes its bytes.
        rule: of the finding.
        where: that the finding names.
    """

    name: str
    build: Callable[[], bytes]
    rule: str
    where: str


def _changed(
    change: Callable[[onnx.ModelProto], Any], start: Callable[[], onnx.ModelProto] = dense
) -> Callable[[], bytes]:
    def build() -> bytes:
        model = start()
        change(model)
        return model.SerializeToString()

    return build


def _made(make: Callable[[], onnx.ModelProto]) -> Callable[[], bytes]:
    return lambda: make().SerializeToString()


def _external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../../../etc/passwd")


def _external_in_attribute(model: onnx.ModelProto) -> None:
    tensor = helper.make_tensor("t", TensorProto.FLOAT, [1], [0.0])
    tensor.external_data.add(key="location", value="/etc/passwd")
    model.graph.node.insert(0, node("Constant", "", "k", value=tensor))


def _function(model: onnx.ModelProto) -> None:
    body = [node("Relu", "a", "b")]
    model.functions.append(helper.make_function("local", "F", ["a"], ["b"], body, [helper.make_opsetid("", 21)]))


def _nested(depth: int) -> onnx.ModelProto:
    inner = graph([node("Add", "x one", "b")], [], [value("b", None)])
    for level in range(depth):
        name = f"b{level}"
        inner = graph([node("If", "c", name, then_branch=inner, else_branch=inner)], [], [value(name, None)])
    nodes = [node("If", "c", "y", then_branch=inner, else_branch=inner)]
    constants = scalar("one", 1, TensorProto.FLOAT), scalar("c", 1, TensorProto.BOOL)
    return model_of(graph(nodes, [value("x", ["n", 4])], [value("y", None)], *constants))


def _hidden_in_branch(model: onnx.ModelProto) -> None:
    branch = next(a for a in model.graph.node[2].attribute if a.name == "else_branch").g
    branch.node.append(node("Evil", "b", "e", domain="my.own"))


def _branch_over_outer(model: onnx.ModelProto) -> None:
    branch = next(a for a in model.graph.node[2].attribute if a.name == "then_branch").g
    branch.node[0].output[0] = "s"
    branch.output[0].name = "s"


def _client_size(op_type: str, inputs: str) -> onnx.ModelProto:
    made = graph(
        [node(op_type, inputs, "y")],
        [value("x", ["n", 4]), value("size", [2], TensorProto.INT64)],
        [value("y", None)],
        scalar("one", 1),
        scalar("none", 0),
    )
    return model_of(made)


def _field(model: onnx.ModelProto, number: int, payload: bytes = b"") -> bytes:
    tag = (number << 3) | 2
    head = bytes([tag]) if tag < 128 else bytes([tag & 127 | 128, tag >> 7])
    return model.SerializeToString() + head + bytes([len(payload)]) + payload


def _many_sizes() -> onnx.ModelProto:
    nodes = [node("ConstantOfShape", "size", f"c{index}") for index in range(9)]
    nodes.append(node("Relu", "x", "y"))
    return model_of(graph(nodes, [value("x", ["n", 4])], [value("y", None)], numbers("size", 2**25)))


def _set(path: str, to: Any) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        *steps, last = path.split(".")
        target: Any = model
        for step in steps:
            target = target[int(step)] if step.isdigit() else getattr(target, step)
        if last.isdigit():
            target[int(last)] = to
        else:
            setattr(target, last, to)

    return change


def _sparse(model: onnx.ModelProto) -> None:
    sparse = model.graph.sparse_initializer.add(dims=[4, 3])
    sparse.values.CopyFrom(helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0]))
    sparse.indices.CopyFrom(helper.make_tensor("i", TensorProto.INT64, [1], [1 << 40]))


HOSTILE = (
    Hostile("weights that lie in another file", _changed(_external), "external-data", f"{_GRAPH}.initializer[0]"),
    Hostile("a constant that lies in another file", _changed(_external_in_attribute), "external-data", f"{_NODE}.attribute[0].t[0]"),
    Hostile("an operator of a domain of one's own", _changed(_set("graph.node.0.domain", "my.own")), "custom-domain", _NODE),
    Hostile("an operator of one engine's domain", _changed(_set("graph.node.0.domain", "com.microsoft")), "custom-domain", _NODE),
    Hostile("compiled code for a device", _made(lambda: one("EPContext", domain="com.microsoft")), "custom-domain", _NODE),
    Hostile("an operator that is not in the standard", _changed(_set("graph.node.0.op_type", "ReadFile")), "operator-not-allowed", _NODE),
    Hostile("an operator of the standard in the wrong domain", _changed(_set("graph.node.0.domain", "ai.onnx.ml")), "operator-not-allowed", _NODE),
    Hostile("an operator hidden in a branch", _changed(_hidden_in_branch, branching), "custom-domain", f"{_GRAPH}.node[2].attribute[0].g[0].node[1]"),
    Hostile("a local function that nobody calls", _changed(_function), "local-function", "ModelProto.functions"),
    Hostile("an attribute that refers to a function's parameter", _changed(lambda m: m.graph.node[0].attribute.add(name="a", ref_attr_name="b", type=2)), "local-function", f"{_NODE}.attribute[0]"),
    Hostile("a graph for training", _changed(lambda m: m.training_info.add().algorithm.SetInParent()), "training", "ModelProto.training_info"),
    Hostile("a list of maps", _made(lambda: one("ZipMap", domain="ai.onnx.ml", classlabels_int64s=[0, 1])), "operator-not-allowed", _NODE),
    Hostile("random numbers", _made(lambda: one("RandomNormalLike")), "operator-not-allowed", _NODE),
    Hostile("dropout in training mode", _made(lambda: one("Dropout", "x _ yes", scalar("yes", 1, TensorProto.BOOL))), "training", _NODE),
    Hostile("normalisation in training mode", _made(lambda: one("BatchNormalization", "x x x x x", training_mode=1)), "training", f"{_NODE}.attribute[0]"),
    Hostile("a reader of image files", _made(lambda: one("ImageDecoder")), "operator-not-allowed", _NODE),
    Hostile("a locale that is a path", _made(lambda: one("StringNormalizer", locale="../../tmp/x")), "locale", f"{_NODE}.attribute[0]"),
    Hostile("sparse weights with an index out of range", _changed(_sparse), "sparse", f"{_GRAPH}.sparse_initializer"),
    Hostile("weights shorter than their shape", _changed(lambda m: m.graph.initializer[0].dims.append(1000)), "tensor-size", f"{_GRAPH}.initializer[0]"),
    Hostile("weights longer than their shape", _changed(_set("graph.initializer.0.raw_data", bytes(52))), "tensor-size", f"{_GRAPH}.initializer[0]"),
    Hostile("weights in two fields", _changed(lambda m: m.graph.initializer[0].float_data.extend([1.0] * 12)), "tensor-fields", f"{_GRAPH}.initializer[0]"),
    Hostile("weights of a negative dimension", _changed(_set("graph.initializer.0.dims.0", -4)), "tensor-shape", f"{_GRAPH}.initializer[0]"),
    Hostile("weights of 2^62 elements and no byte", _changed(lambda m: (m.graph.initializer[0].ClearField("raw_data"), m.graph.initializer[0].dims.extend([1 << 30, 1 << 30]))), "tensor-shape", f"{_GRAPH}.initializer[0]"),
    Hostile("weights of complex numbers", _changed(_set("graph.initializer.0.data_type", 14)), "tensor-type", f"{_GRAPH}.initializer[0]"),
    Hostile("a text tensor in raw bytes", _changed(_set("graph.initializer.0.data_type", 8)), "tensor-fields", f"{_GRAPH}.initializer[0]"),
    Hostile("a constant of a terabyte", _made(lambda: one("ConstantOfShape", "size", numbers("size", 1 << 19, 1 << 19))), "size-too-large", _NODE),
    Hostile("many constants of a gigabyte in sum", _made(_many_sizes), "size-too-large", f"{_GRAPH}.node[8]"),
    Hostile("a row repeated 2^40 times", _made(lambda: one("Tile", "x size", numbers("size", 1 << 20, 1 << 20))), "size-too-large", _NODE),
    Hostile("a row widened 2^40 times", _made(lambda: one("Expand", "x size", numbers("size", 1 << 40, 4))), "size-too-large", _NODE),
    Hostile("a picture magnified 2^20 times each way", _made(lambda: one("Resize", "x _ s", numbers("s", 2.0**20, 2.0**20, elem_type=TensorProto.FLOAT))), "size-too-large", _NODE),
    Hostile("padding of 2^40", _made(lambda: one("Pad", "x p", numbers("p", 0, 0, 0, 1 << 40))), "size-too-large", _NODE),
    Hostile("a range in steps of nearly nothing", _made(lambda: one("Range", "a b c", scalar("a", 0, 1), scalar("b", 1, 1), scalar("c", 1e-12, 1))), "size-too-large", _NODE),
    Hostile("a range without a step", _made(lambda: one("Range", "a b a", scalar("a", 0), scalar("b", 1))), "size-not-constant", _NODE),
    Hostile("a tree with 2^40 targets", _made(lambda: one("TreeEnsembleRegressor", domain="ai.onnx.ml", n_targets=1 << 40)), "size-too-large", f"{_NODE}.attribute[0]"),
    Hostile("a size that a client sends", _made(lambda: _client_size("Expand", "x size")), "size-not-constant", _NODE),
    Hostile("a range that a client sends", _made(lambda: _client_size("Range", "none size one")), "size-not-constant", _NODE),
    Hostile("graphs nested ten deep", _made(lambda: _nested(10)), "nested-too-deeply", ""),
    Hostile("a graph where none belongs", _made(lambda: one("Relu", body=graph([], [], []))), "nested-graph", f"{_NODE}.attribute[0]"),
    Hostile("a list of graphs", _made(lambda: one("Relu", bodies=[graph([], [], [])])), "attribute", f"{_NODE}.attribute[0]"),
    Hostile("an attribute with two values", _changed(lambda m: m.graph.node[0].attribute.add(name="a", type=2, i=1, s=b"x")), "attribute", f"{_NODE}.attribute[0]"),
    Hostile("an attribute twice", _changed(lambda m: [m.graph.node[0].attribute.add(name="a", type=2, i=1) for _ in range(2)]), "attribute", f"{_NODE}.attribute[1]"),
    Hostile("a branch that writes over an outer value", _changed(_branch_over_outer, branching), "dataflow", f"{_GRAPH}.node[2].attribute[1].g[0].node[0]"),
    Hostile("a node that reads what comes later", _changed(_set("graph.node.0.input.0", "s")), "dataflow", _NODE),
    Hostile("a value written twice", _changed(_set("graph.node.1.output.0", "h")), "dataflow", f"{_GRAPH}.node[1]"),
    Hostile("an output that nothing wrote", _changed(_set("graph.output.0.name", "z")), "dataflow", f"{_GRAPH}.output[0]"),
    Hostile("an input whose name leads out of a folder", _changed(lambda m: (_set("graph.input.0.name", "../../x")(m), _set("graph.node.0.input.0", "../../x")(m))), "name", f"{_GRAPH}.input[0]"),
    Hostile("a value whose name is an address", _changed(_set("graph.node.0.output.0", "file:///etc/x")), "name", _NODE),
    Hostile("a name with a control character", _changed(_set("graph.node.0.output.0", "a\x1b[2J")), "name", _NODE),
    Hostile("an input that is a map", _changed(lambda m: m.graph.input[0].type.map_type.SetInParent()), "port-type", f"{_GRAPH}.input[0]"),
    Hostile("an input of complex numbers", _changed(_set("graph.input.0.type.tensor_type.elem_type", 15), texts), "port-type", f"{_GRAPH}.input[0]"),
    Hostile("two versions of one domain", _changed(lambda m: m.opset_import.add(domain="ai.onnx", version=20)), "opset", "ModelProto.opset_import[2]"),
    Hostile("an opset of tomorrow", _changed(_set("opset_import.0.version", 999)), "opset", "ModelProto.opset_import[0]"),
    Hostile("an IR version of tomorrow", _changed(_set("ir_version", 99)), "ir-version", "ModelProto"),
    Hostile("a field that the format does not have", lambda: _field(dense(), 99, b"x"), "unknown-field", "ModelProto"),
    Hostile("a second graph behind the first", lambda: _field(dense(), 7, dense().graph.name.encode()), "repeated-field", "ModelProto.graph"),
    Hostile("a model divided over devices", lambda: _field(dense(), 26, b""), "devices", "ModelProto.configuration"),
    Hostile("no graph", lambda: onnx.ModelProto(ir_version=10).SerializeToString(), "graph", "ModelProto"),
    Hostile("a pickle", lambda: b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x02os\x8c\x06system\x93.", "unknown-field", "ModelProto"),
)  # fmt: skip
