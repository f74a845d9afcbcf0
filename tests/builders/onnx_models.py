"""ONNX models: small graphs written by hand, and scikit-learn's own estimators as skl2onnx converts them."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSETS = (("", 21), ("ai.onnx.ml", 3))
WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3) / 10


@dataclass(frozen=True)
class Bytes:
    """A `Source` over bytes."""

    content: bytes

    @property
    def size_bytes(self) -> int:
        return len(self.content)

    def read_at(self, offset: int, n_bytes: int) -> bytes:
        return self.content[offset : offset + n_bytes]


def value(
    name: str, shape: Sequence[int | str | None] | None, elem_type: int = TensorProto.FLOAT
) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, elem_type, shape)


def node(op_type: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """A node of inputs and outputs written as words; `_` is an input left out."""
    names = [name if name != "_" else "" for name in inputs.split()]
    return helper.make_node(op_type, names, outputs.split(), **attributes)


def numbers(name: str, *values: float, elem_type: int = TensorProto.INT64) -> onnx.TensorProto:
    return helper.make_tensor(name, elem_type, [len(values)], list(values))


def scalar(name: str, number: float, elem_type: int = TensorProto.INT64) -> onnx.TensorProto:
    return helper.make_tensor(name, elem_type, [], [number])


def graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    *constants: onnx.TensorProto,
) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "g", list(inputs), list(outputs), list(constants))


def model_of(made: onnx.GraphProto, *, ir_version: int = 10) -> onnx.ModelProto:
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS]
    return helper.make_model(made, ir_version=ir_version, opset_imports=opsets, producer_name="a test", doc_string="d")


def one(op_type: str, inputs: str = "x", *constants: onnx.TensorProto, **attributes: Any) -> onnx.ModelProto:
    """A model of one node from `x`, (rows, 4) of FP32, to `y`."""
    made = graph([node(op_type, inputs, "y", **attributes)], [value("x", ["n", 4])], [value("y", None)], *constants)
    return model_of(made)


def dense() -> onnx.ModelProto:
    """`relu(x @ w + b)`: valid, a test changes what it is about."""
    nodes = [node("MatMul", "x w", "h"), node("Add", "h b", "s"), node("Relu", "s", "y", name="last")]
    constants = numpy_helper.from_array(WEIGHTS, "w"), numpy_helper.from_array(np.ones(3, np.float32), "b")
    return model_of(graph(nodes, [value("x", ["n", 4])], [value("y", ["n", 3])], *constants))


def branching() -> onnx.ModelProto:
    """`y = x + 1 if sum(x) > 0 else x - 1`, the constant from outside the branches."""
    branches = {
        f"{name}_branch": graph([node(op_type, "x one", "b")], [], [value("b", None)])
        for name, op_type in (("then", "Add"), ("else", "Sub"))
    }
    nodes = [node("ReduceSum", "x", "s", keepdims=0), node("Greater", "s zero", "c"), node("If", "c", "y", **branches)]
    constants = scalar("one", 1, TensorProto.FLOAT), scalar("zero", 0, TensorProto.FLOAT)
    return model_of(graph(nodes, [value("x", ["n", 4])], [value("y", ["n", 4])], *constants))


def looping() -> onnx.ModelProto:
    """`y = x * 8`, by doubling three times."""
    body = graph(
        [node("Add", "v v", "w"), node("Identity", "c", "d")],
        [value("i", [], TensorProto.INT64), value("c", [], TensorProto.BOOL), value("v", None)],
        [value("d", [], TensorProto.BOOL), value("w", None)],
    )
    nodes = [node("Loop", "three yes x", "y", body=body)]
    constants = scalar("three", 3), scalar("yes", 1, TensorProto.BOOL)
    return model_of(graph(nodes, [value("x", ["n", 4])], [value("y", ["n", 4])], *constants))


def texts() -> onnx.ModelProto:
    """Texts to texts and to numbers."""
    nodes = [
        node("LabelEncoder", "t", "y", domain="ai.onnx.ml", keys_strings=["a", "b"], values_int64s=[7, 8]),
        node("Identity", "t", "u"),
    ]
    kinds = TensorProto.STRING, TensorProto.INT64
    outputs = [value("y", ["n", 2], kinds[1]), value("u", ["n", 2], kinds[0])]
    return model_of(graph(nodes, [value("t", ["n", 2], kinds[0])], outputs))


def shapes() -> onnx.ModelProto:
    """A size made of the request's own: `y = expand(1, [rows, 8])`."""
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s first", "rows"),
        node("Concat", "rows eight", "size", axis=0),
        node("Expand", "one size", "y"),
    ]
    constants = numbers("first", 0), numbers("eight", 8), scalar("one", 1, TensorProto.FLOAT)
    return model_of(graph(nodes, [value("x", ["n", 4])], [value("y", ["n", 8])], *constants))


SMALL: dict[str, Callable[[], onnx.ModelProto]] = {
    each.__name__: each for each in (dense, branching, looping, texts, shapes)
}


@dataclass(frozen=True)
class Estimator:
    """What scikit-learn says, and the model converted from it.

    Attributes:
        content: the ONNX file.
        inputs: by the model's name of the input.
        expected: the outputs, in the model's order.
    """

    name: str
    content: bytes
    inputs: dict[str, np.ndarray]
    expected: tuple[np.ndarray, ...]


def estimators() -> Iterator[Estimator]:
    """Fit and convert estimators of scikit-learn, on 120 rows of its own data."""
    from sklearn import datasets, ensemble, linear_model, neural_network, pipeline, preprocessing, svm, tree

    rows, labels = datasets.load_iris(return_X_y=True)
    rows = rows.astype(np.float32)
    classifiers = {
        "decision tree": tree.DecisionTreeClassifier(random_state=0),
        "random forest": ensemble.RandomForestClassifier(40, random_state=0),
        "gradient boosting": ensemble.GradientBoostingClassifier(n_estimators=20, random_state=0),
        "support vectors": svm.SVC(decision_function_shape="ovr"),
        "logistic regression": linear_model.LogisticRegression(max_iter=1000),
        "perceptrons": neural_network.MLPClassifier((8,), max_iter=400, tol=1e-2, random_state=0),
        "scaled vectors": pipeline.make_pipeline(preprocessing.StandardScaler(), svm.SVC(kernel="linear")),
    }
    for name, estimator in classifiers.items():
        estimator.fit(rows, labels)
        yield _converted(name, estimator, rows)
    regressors = {
        "linear regression": linear_model.LinearRegression(),
        "regression forest": ensemble.RandomForestRegressor(20, random_state=0),
        "regression vectors": svm.SVR(),
    }
    for name, estimator in regressors.items():
        estimator.fit(rows[:, :3], rows[:, 3])
        yield _converted(name, estimator, rows[:, :3])
    yield _mixed_columns()


def _converted(name: str, estimator: Any, rows: np.ndarray) -> Estimator:
    from skl2onnx import to_onnx

    is_classifier = hasattr(estimator, "classes_")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = to_onnx(estimator, rows[:1], options={"zipmap": False} if is_classifier else None)
    predicted = estimator.predict(rows)
    if not is_classifier:
        expected: tuple[np.ndarray, ...] = (predicted.reshape(-1, 1),)
    elif hasattr(estimator, "predict_proba"):
        expected = predicted, estimator.predict_proba(rows)
    else:
        expected = predicted, estimator.decision_function(rows)
    return Estimator(name, made.SerializeToString(), {"X": rows}, expected)


def _mixed_columns() -> Estimator:
    """A pipeline of scaled numbers and one-hot texts."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType
    from sklearn import compose, linear_model, pipeline, preprocessing

    random = np.random.default_rng(3)
    ages = random.normal(40, 10, (120, 1)).astype(np.float32)
    towns = np.array(["Bonn", "Kiel", "Ulm"], dtype=object)[random.integers(0, 3, (120, 1))]
    table = np.concatenate([ages.astype(object), towns], axis=1)
    columns = compose.ColumnTransformer(
        [("age", preprocessing.StandardScaler(), [0]), ("town", preprocessing.OneHotEncoder(), [1])]
    )
    estimator = pipeline.make_pipeline(columns, linear_model.LogisticRegression())
    estimator.fit(table, (ages[:, 0] > 40).astype(np.int64))
    types = [("age", FloatTensorType([None, 1])), ("town", StringTensorType([None, 1]))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = to_onnx(estimator, initial_types=types, options={"zipmap": False})
    expected = estimator.predict(table), estimator.predict_proba(table)
    encoded = np.array([[town.encode()] for (town,) in towns], dtype=object)
    return Estimator("mixed columns", made.SerializeToString(), {"age": ages, "town": encoded}, expected)


ECHOED = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}
"""Datatypes by the names that the open protocol gives them."""


def echo(*datatypes: str) -> onnx.ModelProto:
    """Answers for each datatype its input `IN_<datatype>`, (rows, 2), as `OUT_<datatype>`; of all, unless some are named."""
    wanted = datatypes or tuple(ECHOED)
    nodes = [node("Identity", f"IN_{name}", f"OUT_{name}") for name in wanted]
    inputs = [value(f"IN_{name}", ["n", 2], ECHOED[name]) for name in wanted]
    outputs = [value(f"OUT_{name}", ["n", 2], ECHOED[name]) for name in wanted]
    return model_of(graph(nodes, inputs, outputs))
