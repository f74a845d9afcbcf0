"""How an answer is wanted: raw bytes, best classes, parameters of the request."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from maas_gateway.errors import GatewayError, InvalidRequest, MalformedBody
from maas_gateway.protocols.open_inference.codec import Asked, read_infer, write_infer
from maas_gateway.protocols.open_inference.outputs import AnswerForm, OutputForm
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.inference import InferenceResponse
from maas_gateway.tensors.signature import ModelSignature, TensorSpec
from maas_gateway.tensors.tensor import Tensor

SIGNATURE = ModelSignature(
    (TensorSpec("x", Datatype.FP32, (-1,)),),
    (TensorSpec("y", Datatype.FP32, (-1, 3)), TensorSpec("z", Datatype.BYTES, (-1,))),
)
SCORES = np.array([[0.25, 0.5, 0.25], [3.0, -1.0, np.nan]], dtype=np.float32)
TEXTS = np.array([b"\xff", b""], dtype=np.object_)
RESPONSE = InferenceResponse("m", 1, (Tensor.of("y", SCORES[:1]), Tensor("z", Datatype.BYTES, TEXTS[:1])))


def ask(**fields: object) -> Asked:
    x = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}
    return read_infer(json.dumps({"inputs": [x], **fields}).encode(), SIGNATURE)


@pytest.mark.parametrize(
    ("fields", "names", "forms"),
    [
        pytest.param({}, (), {"y": (False, 0), "z": (False, 0)}, id="nothing said"),
        pytest.param(
            {"parameters": {"binary_data_output": True}}, (), {"y": (True, 0), "z": (True, 0)}, id="all as raw bytes"
        ),
        pytest.param(
            {
                "parameters": {"binary_data_output": True},
                "outputs": [{"name": "z", "parameters": {"binary_data": False}}],
            },
            ("z",),
            {"y": (True, 0), "z": (False, 0)},
            id="one goes before all",
        ),
        pytest.param(
            {"outputs": [{"name": "z"}, {"name": "y", "parameters": {"binary_data": True, "classification": 2}}]},
            ("z", "y"),
            {"y": (True, 2), "z": (False, 0)},
            id="classes of one as raw bytes",
        ),
    ],
)
def test_form_of_each_output_is_read(
    fields: dict[str, object], names: tuple[str, ...], forms: dict[str, tuple[bool, int]]
) -> None:
    asked = ask(**fields)
    assert asked.request.outputs == names
    assert {name: tuple(asked.form.of(name)) for name in forms} == forms


REFUSED = {
    "binary_data that is text": {"outputs": [{"name": "y", "parameters": {"binary_data": "true"}}]},
    "binary_data_output that is a number": {"parameters": {"binary_data_output": 1}},
    "classes that are negative": {"outputs": [{"name": "y", "parameters": {"classification": -1}}]},
    "classes that are true": {"outputs": [{"name": "y", "parameters": {"classification": True}}]},
    "a priority that is negative": {"parameters": {"priority": -1}},
    "a priority that is a fraction": {"parameters": {"priority": 1.5}},
    "a timeout that is text": {"parameters": {"timeout": "1"}},
    "a timeout beyond 64 bits": {"parameters": {"timeout": 2**64}},
}


@pytest.mark.parametrize("fields", REFUSED.values(), ids=REFUSED)
def test_form_is_refused_when_it_has(fields: dict[str, object]) -> None:
    with pytest.raises(MalformedBody, match=r"output 'y'|parameter '"):
        ask(**fields)


def test_priority_and_timeout_are_the_requests() -> None:
    request = ask(parameters={"priority": 3, "timeout": 1_500_000}).request
    assert (request.priority, request.timeout_s) == (3, 1.5)
    assert (ask().request.priority, ask(parameters={"timeout": 0}).request.timeout_s) == (0, None)


def test_raw_outputs_follow_the_json_in_its_order() -> None:
    written = write_infer(RESPONSE, "r", AnswerForm(is_binary=True))
    document, raw = json.loads(written.text), b"".join(written.raw)
    assert document["outputs"] == [
        {"name": "y", "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": 12}},
        {"name": "z", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 5}},
    ]
    assert raw == SCORES[:1].tobytes() + b"\x01\x00\x00\x00\xff"


def test_raw_outputs_are_not_copied() -> None:
    (raw,) = write_infer(InferenceResponse("m", 1, (Tensor.of("y", SCORES),)), "r", AnswerForm(is_binary=True)).raw
    assert np.shares_memory(np.frombuffer(raw, np.uint8), SCORES)


def test_output_as_json_stands_beside_one_as_raw_bytes() -> None:
    written = write_infer(RESPONSE, "r", AnswerForm(outputs={"z": OutputForm(is_binary=True)}))
    document = json.loads(written.text)
    assert document["outputs"][0]["data"] == [0.25, 0.5, 0.25]
    assert document["outputs"][1]["parameters"] == {"binary_data_size": 5}


def test_values_that_json_has_not_come_as_raw_bytes_only() -> None:
    response = InferenceResponse("m", 1, (Tensor.of("y", SCORES),))
    assert b"".join(write_infer(response, "r", AnswerForm(is_binary=True)).raw) == SCORES.tobytes()
    with pytest.raises(InvalidRequest, match="output 'y' has values that are not finite"):
        write_infer(response, "r", AnswerForm(outputs={"y": OutputForm(is_binary=False)}))


@pytest.mark.parametrize(
    ("k", "expected"),
    [
        (1, [["0.500000:1"], ["3.000000:0"]]),
        (2, [["0.500000:1", "0.250000:0"], ["3.000000:0", "-1.000000:1"]]),
        (9, [["0.500000:1", "0.250000:0", "0.250000:2"], ["3.000000:0", "-1.000000:1", "nan:2"]]),
    ],
)
def test_best_classes_of_each_row_come_in_the_place_of_its_scores(k: int, expected: list[list[str]]) -> None:
    response = InferenceResponse("m", 1, (Tensor.of("y", SCORES),))
    written = write_infer(response, "r", AnswerForm(outputs={"y": OutputForm(is_binary=False, n_classes=k)}))
    output = json.loads(written.text)["outputs"][0]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, min(k, 3)])
    assert np.reshape(output["data"], output["shape"]).tolist() == expected


def test_best_classes_of_a_model_without_rows_have_one_dimension() -> None:
    response = InferenceResponse("m", 1, (Tensor.of("y", np.array([1, 3, 2], dtype=np.int8)),))
    form = AnswerForm(outputs={"y": OutputForm(is_binary=False, n_classes=2)})
    output = json.loads(write_infer(response, "r", form, has_rows=False).text)["outputs"][0]
    assert (output["shape"], output["data"]) == ([2], ["3.000000:1", "2.000000:2"])


@pytest.mark.parametrize("array", [TEXTS, np.zeros((2, 3, 4)), np.zeros(3)], ids=["text", "an image", "one score"])
def test_output_that_is_no_row_of_scores_is_not_classified(array: np.ndarray) -> None:
    response = InferenceResponse("m", 1, (Tensor.of("y", array),))
    with pytest.raises(InvalidRequest, match="output 'y': classification needs numbers of shape"):
        write_infer(response, "r", AnswerForm(outputs={"y": OutputForm(is_binary=False, n_classes=1)}))


@settings(deadline=None)
@given(
    arrays.arrays(
        st.sampled_from([datatype.numpy for datatype in Datatype if datatype is not Datatype.BYTES]),
        arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4),
    ),
    st.text(max_size=5),
)
def test_every_value_survives_the_way_there_and_back(array: np.ndarray, name: str) -> None:
    written = write_infer(InferenceResponse("m", 1, (Tensor.of(name, array),)), "r", AnswerForm(is_binary=True))
    document = json.loads(written.text)
    head = json.dumps({"inputs": document["outputs"]}).encode()
    signature = ModelSignature((TensorSpec(name, Tensor.of(name, array).datatype, array.shape),), ())
    asked = read_infer(b"".join((head, *written.raw)), signature, header=str(len(head)).encode())
    back = asked.request.inputs[0].array
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80), st.integers(-1, 90) | st.text(max_size=3))
def test_no_bytes_behind_a_header_raise_anything_but_errors_of_ours(body: bytes, header: object) -> None:
    x = b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","parameters":{"binary_data_size":4}}]}'
    for whole in (body, x + body):
        try:
            asked = read_infer(whole, SIGNATURE, header=str(header).encode(), model="m")
        except GatewayError as error:
            error.detail.encode()
        else:
            assert SIGNATURE.check(asked.request.inputs) == asked.request.n_rows
