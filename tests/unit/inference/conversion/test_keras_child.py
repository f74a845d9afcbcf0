"""What Keras models become: their signature, a plan that answers as they do, or a reason."""

from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

pytestmark = pytest.mark.thorough


def ports(made: Any, which: str) -> list[tuple[str, str, list[int]]]:
    return [(port["name"], port["datatype"], port["shape"]) for port in made.header["signature"][which]]


def run_by_name(made: Any, rows: dict[str, Any]) -> dict[str, Any]:
    """Run a plan as the gateway does: by the signature's names and the two orders."""
    interpreter = Interpreter(model_content=made.plan)
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    names = [port[0] for port in ports(made, "inputs")]
    wanted = {
        inputs[place]["index"]: rows[name]
        for name, place in zip(names, made.plans["litert"]["input_order"], strict=True)
    }
    for index, value in wanted.items():
        interpreter.resize_tensor_input(index, value.shape)
    interpreter.allocate_tensors()
    for index, value in wanted.items():
        interpreter.set_tensor(index, value)
    interpreter.invoke()
    places = zip(ports(made, "outputs"), made.plans["litert"]["output_order"], strict=True)
    return {port[0]: interpreter.get_tensor(outputs[place]["index"]) for port, place in places}


def test_forms_are_compared_on_the_publishers_sample_too(made: Any) -> None:
    header = made["small"].header
    good, bad = header["with samples"]
    assert good["n_compared"] == header["n_compared"] + 3 * 3
    assert good["notes"] == ["every form was compared on the 3 rows of the publisher's sample, too"]
    assert bad["refused"].startswith("the sample does not fit the model: input 'x': ")


@pytest.mark.parametrize(
    ("name", "inputs", "outputs"),
    [
        pytest.param("small", [("x", "FP32", [-1, 4])], [("y", "FP32", [-1, 3])], id="one input and one output"),
        pytest.param(
            "two-by-two",
            [("zulu", "FP32", [-1, 3]), ("alpha", "FP32", [-1, 5])],
            [("zulu_doubled", "FP32", [-1, 3]), ("alpha_total", "FP32", [-1, 1])],
            id="the model's order is kept, not the alphabet's",
        ),
        pytest.param(
            "dictionaries",
            [("left", "FP32", [-1, 2]), ("right", "FP32", [-1, 2])],
            [("aa", "FP32", [-1, 2]), ("zz", "FP32", [-1, 2])],
            id="the keys of a dictionary of outputs are their names",
        ),
        pytest.param(
            "one-layer-twice",
            [("left", "FP32", [-1, 2]), ("right", "FP32", [-1, 2])],
            [("shared", "FP32", [-1, 2]), ("shared_1", "FP32", [-1, 2])],
            id="a name used twice gets a suffix",
        ),
        pytest.param("tokens", [("tokens", "INT32", [-1, -1])], [("score", "FP32", [-1, 2])], id="free integers"),
        pytest.param("picture", [("picture", "FP32", [-1, -1, -1, 3])], [("score", "FP32", [-1, 2])], id="free sizes"),
        pytest.param(
            "choice",
            [("row", "FP32", [-1, 6]), ("wanted", "BOOL", [-1, 1])],
            [("cast_1", "INT32", [-1, 4])],
            id="bools go in and integers come out",
        ),
        pytest.param("partly-finite", [("x", "FP32", [-1, 3])], [("log", "FP32", [-1, 3])], id="some answers are NaN"),
    ],
)
def test_signature_is_read_from_the_model(made: dict[str, Any], name: str, inputs: Any, outputs: Any) -> None:
    assert "refused" not in made[name].header
    assert ports(made[name], "inputs") == inputs
    assert ports(made[name], "outputs") == outputs
    assert list(made[name].plans) == ["keras", "litert"]
    assert made[name].plans["keras"]["max_relative_error"] <= made[name].plans["keras"]["tolerance"] == 1e-6
    assert made[name].plans["litert"]["max_relative_error"] <= made[name].plans["litert"]["tolerance"] == 1e-5
    assert made[name].header["notes"] == []
    assert made[name].header["n_compared"] > 0


@pytest.mark.parametrize("n_rows", [1, 2, 5, 64])
def test_inputs_and_outputs_of_different_shapes_keep_their_names(made: dict[str, Any], n_rows: int) -> None:
    rng = np.random.default_rng(3)
    rows = {
        "zulu": rng.standard_normal((n_rows, 3)).astype(np.float32),
        "alpha": rng.standard_normal((n_rows, 5)).astype(np.float32),
    }
    answer = run_by_name(made["two-by-two"], rows)
    np.testing.assert_allclose(answer["zulu_doubled"], 2 * rows["zulu"], rtol=1e-5)
    np.testing.assert_allclose(answer["alpha_total"], 1 + rows["alpha"].sum(axis=1, keepdims=True), atol=1e-5)


def test_inputs_and_outputs_of_one_shape_keep_their_names(made: dict[str, Any]) -> None:
    rows = {"second": np.float32([[1, 2], [3, 4]]), "first": np.float32([[10, 20], [30, 40]])}
    answer = run_by_name(made["twins"], rows)
    np.testing.assert_allclose(answer["tripled_second"], 3 * rows["second"])
    np.testing.assert_allclose(answer["quintupled_first"], 5 * rows["first"])


def test_dictionaries_of_inputs_and_outputs_keep_their_names(made: dict[str, Any]) -> None:
    rows = {"left": np.float32([[1, 2]]), "right": np.float32([[10, 20]])}
    answer = run_by_name(made["dictionaries"], rows)
    np.testing.assert_allclose(answer["zz"], 2 * rows["left"])
    np.testing.assert_allclose(answer["aa"], 7 * rows["right"])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        pytest.param("recurrent", "'tf.TensorListReserve' op requires element_shape", id="recurrent layers"),
        pytest.param("double", "no built-in operator for BiasAdd, MatMul", id="double precision"),
        pytest.param("half", "no built-in operator for BiasAdd, MatMul", id="bfloat16 inside"),
        pytest.param("words", "no built-in operator for", id="strings"),
    ],
)
def test_model_that_does_not_lower_is_served_rebuilt_and_a_note_says_why(
    made: dict[str, Any], name: str, reason: str
) -> None:
    header = made[name].header
    assert list(made[name].plans) == ["keras"]
    assert made[name].plans["keras"]["max_relative_error"] <= 1e-6
    assert made[name].plans["keras"]["n_bytes"] == len(made[name].rebuilt)
    assert header["n_compared"] > 0
    assert header["notes"][0].startswith("There is no LiteRT plan, and the model is served by Keras: ")
    assert reason in header["notes"][0]
    assert made[name].plan == b""


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        pytest.param("fixed-batch", "input 'x' fixes its batch size", id="a fixed batch"),
        pytest.param("not-finite", "output 'log' has no finite value", id="nothing to compare"),
        pytest.param("short-floats", "tensor 'x' is of a kind that is not served: bfloat16", id="bfloat16 outside"),
    ],
)
def test_model_is_refused_with_a_readable_reason(made: dict[str, Any], name: str, reason: str) -> None:
    refused = made[name].header["refused"]
    assert reason in refused
    assert "\n" not in refused
    assert ".py" not in refused
    assert len(refused) < 450
    assert made[name].plan == b""
