"""Open Inference Protocol bodies: every rule, and what must hold for any bytes."""

import json

import jsonschema
import numpy as np
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from maas_gateway.errors import (
    GatewayError,
    InvalidRequest,
    MalformedBody,
    SignatureMismatch,
    Unsupported,
)
from maas_gateway.protocols.open_inference import schemas
from maas_gateway.protocols.open_inference.codec import (
    read_infer,
    write_error,
    write_infer,
    write_model_metadata,
    write_server_metadata,
)
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.inference import InferenceResponse
from maas_gateway.tensors.signature import ModelSignature, TensorSpec
from maas_gateway.tensors.tensor import Tensor

PAIRS = ModelSignature(
    (TensorSpec("x", Datatype.FP32, (-1, 2)),),
    (TensorSpec("y", Datatype.FP32, (-1, 1)), TensorSpec("z", Datatype.BYTES, (-1,))),
)
MIXED = ModelSignature(
    (
        TensorSpec("n", Datatype.INT8, (-1,)),
        TensorSpec("f", Datatype.FP64, (-1, 2)),
        TensorSpec("s", Datatype.BYTES, (-1,)),
        TensorSpec("b", Datatype.BOOL, (-1,)),
    ),
    (),
)


def an_input(**changes: object) -> dict[str, object]:
    """One good input; a change of None takes the field away."""
    fields = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.5, 2.5]} | changes
    return {name: value for name, value in fields.items() if value is not None}


def a_body(*inputs: dict[str, object], **fields: object) -> bytes:
    return json.dumps({"inputs": list(inputs or [an_input()]), **fields}).encode()


def one(datatype: Datatype, *shape: int) -> ModelSignature:
    return ModelSignature((TensorSpec("x", datatype, shape),), ())


def refusal(body: bytes, signature: ModelSignature = PAIRS, error: type[GatewayError] = GatewayError) -> str:
    with pytest.raises(error) as caught:
        read_infer(body, signature)
    caught.value.detail.encode()
    return caught.value.detail


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param(b"", "the body is not JSON", id="empty"),
        pytest.param(b"[]", "the body must be a JSON object and is of type Array", id="list"),
        pytest.param(b"\xef\xbb\xbf" + a_body(), "the body is not JSON", id="byte order mark"),
        pytest.param(a_body() + b"x", "the body is not JSON", id="trailing bytes"),
        pytest.param(b"\xff", "the body is not JSON", id="no UTF-8"),
        pytest.param(b'{"inputs":' + b"[" * 100_000, "the body is not JSON", id="deep"),
        pytest.param(b'{"inputs":' + b"[" * 100_000 + b"NaN", "the body is not JSON", id="deep with a token"),
        pytest.param(b'{"a": NaN}', "the body is not JSON", id="token outside the inputs"),
        pytest.param(b"{}", "'inputs' must be a list of objects", id="no inputs"),
        pytest.param(b'{"inputs": {}}', "'inputs' must be a list of objects", id="inputs that are an object"),
        pytest.param(b'{"inputs": [1]}', "inputs[0] must be an Object and is of type Number", id="input that is none"),
        pytest.param(b'{"inputs": [{}]}', "inputs[0]: 'name' must be a string", id="input without a name"),
        pytest.param(a_body(id=5), "'id' must be a string", id="id that is a number"),
        pytest.param(a_body(parameters=[]), "'parameters' must be an Object", id="parameters that are a list"),
        pytest.param(a_body(outputs={}), "'outputs' must be a list of objects", id="outputs that are an object"),
        pytest.param(a_body(outputs=["y"]), "outputs[0] must be an Object whose 'name'", id="output that is a string"),
        pytest.param(
            a_body(an_input(parameters=1)), "input 'x': 'parameters' must be an Object", id="parameters of input"
        ),
        pytest.param(
            a_body(outputs=[{"name": "y", "parameters": 1}]),
            "output 'y': 'parameters' must be",
            id="parameters of output",
        ),
        pytest.param(a_body(an_input(datatype=None)), "input 'x': 'datatype' must be a string", id="no datatype"),
        pytest.param(a_body(an_input(shape=None)), "input 'x': 'shape' must be a list of integers", id="no shape"),
        pytest.param(a_body(an_input(shape=[1, True])), "input 'x': shape[1] must be an integer", id="true as size"),
        pytest.param(a_body(an_input(shape=[1.0])), "input 'x': shape[0] must be an integer", id="real size"),
        pytest.param(a_body(an_input(shape=[-1])), "input 'x': shape[0] must be an integer", id="negative size"),
        pytest.param(a_body(an_input(shape=[2**63])), "input 'x': shape[0] must be an integer", id="size beyond int64"),
        pytest.param(a_body(an_input(data=None)), "input 'x': 'data' is missing", id="no data"),
        pytest.param(a_body(an_input(data="ab")), "input 'x': 'data' must be a list and is of", id="data of text"),
        pytest.param(a_body(an_input(data=1)), "input 'x': 'data' must be a list and is of", id="data of one number"),
    ],
)
def test_a_body_in_another_form_is_malformed_and_the_field_named(body: bytes, said: str) -> None:
    assert refusal(body, error=MalformedBody).startswith(said)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param(a_body(an_input(data=[1, None])), "input 'x': JSON Value: null", id="null"),
        pytest.param(
            a_body(an_input(datatype="BYTES", data=["a", 1])), "input 'x': expected FP32 and got", id="datatype"
        ),
        pytest.param(a_body(an_input(data=[1, True])), "input 'x': JSON Value: true", id="true"),
        pytest.param(a_body(an_input(data=[1, "2"])), "input 'x': JSON Value: \"2\"", id="string"),
        pytest.param(a_body(an_input(data=[1, 1e40])), "input 'x': element 1 of 'data' is out of range", id="1e40"),
        pytest.param(a_body(an_input(shape=[1] * 33)), "input 'x': 'shape' has more than 32", id="dimensions"),
        pytest.param(
            a_body(an_input(shape=[0, 2**62, 2**62], data=[])), "input 'x': shape [0, 46", id="empty and immense"
        ),
        pytest.param(a_body(an_input(shape=[2**62, 2**62])), "input 'x': shape [46", id="immense"),
        pytest.param(a_body(an_input(shape=[])), "input 'x': shape [] has 1 elements and 'data' has 2", id="scalar"),
        pytest.param(a_body(an_input(name="q" * 10_000)), "unknown input 'qqq", id="long name"),
        pytest.param(
            a_body(outputs=[{"name": "y"}, {"name": "y"}]), "output 'y' is asked for twice", id="output twice"
        ),
    ],
)
def test_values_that_do_not_fit_are_refused_by_the_inputs_name(body: bytes, said: str) -> None:
    detail = refusal(body, error=SignatureMismatch)
    assert detail.startswith(said)
    assert len(detail) < 300


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400"])
@pytest.mark.parametrize("nest", ["{}", "[{}, 1]", "[[{}]]"])
def test_a_number_that_json_has_not_is_refused_by_the_inputs_name(token: str, nest: str) -> None:
    body = b'{"inputs": [{"name": "a", "data": [1]}, {"name": "x", "data": [1, %b]}]}' % nest.format(token).encode()
    detail = refusal(body, error=MalformedBody)
    assert detail.startswith("input 'x': JSON has no NaN and no Infinity")
    assert "/v1" in detail


def test_such_a_number_in_an_input_without_a_name_is_refused_by_its_position() -> None:
    deep = "[" * 500 + "]" * 500
    assert refusal(f'{{"inputs": [{{"name": {deep}, "data": [NaN]}}]}}'.encode()).startswith("inputs[0]: JSON has no")


def test_half_precision_has_its_sentence_before_all_else() -> None:
    body = a_body(an_input(datatype="FP16", data=["?"]))
    assert refusal(body, one(Datatype.FP32, -1), InvalidRequest) == (
        "receiving FP16 data via JSON is not supported. Please use the binary data format for input x"
    )


@pytest.mark.parametrize(
    "values", [{"data": ["?"]}, {"parameters": {"binary_data_size": 2}}], ids=["JSON", "raw bytes"]
)
def test_brain_floats_have_their_sentence_before_all_else(values: dict[str, object]) -> None:
    entry = {name: value for name, value in an_input(datatype="BF16").items() if name != "data"} | values
    assert refusal(a_body(entry), one(Datatype.FP32, -1), SignatureMismatch) == (
        "input 'x': no model of this server takes BF16; this one takes FP32"
    )


@pytest.mark.parametrize(
    ("body", "error", "said"),
    [
        pytest.param(
            a_body(an_input(data=None, parameters={"shared_memory_region": "r"})), Unsupported, "input 'x'", id="memory"
        ),
        pytest.param(
            a_body(outputs=[{"name": "y", "parameters": {"shared_memory_region": "r"}}]),
            Unsupported,
            "output 'y'",
            id="output in memory",
        ),
        pytest.param(
            a_body(an_input(parameters={"shared_memory_region": "r"})),
            MalformedBody,
            "Input must set only one",
            id="two",
        ),
        pytest.param(a_body(parameters={"sequence_id": 7}), Unsupported, "parameter 'sequence_id'", id="sequence"),
        pytest.param(
            a_body(parameters={"triton_enable": 1}), InvalidRequest, "parameter 'triton_enable'", id="reserved"
        ),
    ],
)
def test_what_would_change_the_answer_and_is_not_offered_is_refused(
    body: bytes, error: type[GatewayError], said: str
) -> None:
    assert refusal(body, error=error).startswith(said)


def test_parameters_that_ask_for_what_we_do_anyway_are_taken() -> None:
    parameters = {"binary_data": False, "classification": 0}
    body = a_body(
        parameters={"binary_data_output": False, "mine": 1}, outputs=[{"name": "z", "parameters": parameters}]
    )
    request, request_id, _ = read_infer(body, PAIRS)
    assert request.outputs == ("z",)
    assert request_id is None


@pytest.mark.parametrize("data", [[[1, 2], [3, 4]], [1, 2, 3, 4], [[[1], [2], [3], [4]]], [[1, 2, 3, 4]]], ids=str)
def test_only_the_number_of_values_must_be_that_of_the_shape(data: list[object]) -> None:
    request, *_ = read_infer(a_body(an_input(shape=[2, 2], data=data)), PAIRS)
    assert request.inputs[0].array.tolist() == [[1, 2], [3, 4]]
    assert request.n_rows == 2


def test_inputs_come_in_the_signatures_order_and_datatypes() -> None:
    body = a_body(
        an_input(name="s", datatype="BYTES", shape=[2], data=["AP8=", ""], parameters={"content_type": "base64"}),
        an_input(name="b", datatype="BOOL", shape=[2], data=[True, False]),
        an_input(name="n", datatype="INT8", shape=[2], data=[-128, 127]),
        an_input(name="f", datatype="FP64", shape=[2, 2], data=[0.1, 2, 1e300, 4]),
        id="7",
    )
    request, request_id, _ = read_infer(body, MIXED)
    assert request_id == "7"
    assert [tensor.name for tensor in request.inputs] == ["n", "f", "s", "b"]
    assert [tensor.array.tolist() for tensor in request.inputs] == [
        [-128, 127],
        [[0.1, 2.0], [1e300, 4.0]],
        [b"\x00\xff", b""],
        [True, False],
    ]


@settings(deadline=None)
@given(
    arrays.arrays(
        st.sampled_from([d.numpy for d in Datatype if d not in (Datatype.FP16, Datatype.BYTES)]),
        arrays.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4),
        elements={"allow_nan": False, "allow_infinity": False},
    ),
    st.sampled_from(["nested", "flat"]),
    st.text(max_size=5),
)
@example(np.array([[0.1, 5e-324]]), "flat", "null")
def test_arrays_round_trip_through_an_answer_and_a_request(array: np.ndarray, layout: str, name: str) -> None:
    tensor = Tensor.of(name, array)
    answer = json.loads(write_infer(InferenceResponse("m", 1, (tensor,)), "r").text)
    written = answer["outputs"][0]
    if layout == "nested":
        written["data"] = np.array(written["data"], dtype=array.dtype).reshape(array.shape).tolist()
    signature = ModelSignature((TensorSpec(name, tensor.datatype, (-1, *array.shape[1:])),), ())
    request, request_id, _ = read_infer(orjson.dumps({"id": "r", "inputs": answer["outputs"]}), signature)
    assert request_id == "r"
    np.testing.assert_array_equal(request.inputs[0].array, array, strict=True)


@settings(deadline=None)
@given(st.lists(st.text(max_size=5), min_size=1, max_size=4))
def test_text_round_trips(texts: list[str]) -> None:
    array = np.array([text.encode() for text in texts], dtype=np.object_)
    written = json.loads(write_infer(InferenceResponse("m", 1, (Tensor("x", Datatype.BYTES, array),)), "r").text)
    request, *_ = read_infer(orjson.dumps({"inputs": written["outputs"]}), one(Datatype.BYTES, -1))
    assert request.inputs[0].array.tolist() == array.tolist()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_an_output_that_is_not_finite_is_refused_by_its_name_and_the_other_door_named(value: object) -> None:
    good = Tensor.of("null", np.array([1.0]))
    bad = Tensor.of("y", np.array([[1.0, value]], dtype=np.float32))
    with pytest.raises(InvalidRequest, match=r"output 'y' has values that are not finite.*/v1"):
        write_infer(InferenceResponse("m", 1, (good, bad)), "r")


@pytest.mark.parametrize("element", [b"\xff", "\ud800"], ids=["bytes", "lone surrogate"])
def test_text_that_is_not_utf8_is_refused_by_the_outputs_name(element: object) -> None:
    tensor = Tensor("z", Datatype.BYTES, np.array([element], dtype=np.object_))
    with pytest.raises(InvalidRequest, match="output 'z' has bytes that are not UTF-8"):
        write_infer(InferenceResponse("m", 1, (tensor,)), "r")


def test_a_scalar_output_has_an_empty_shape_and_one_value() -> None:
    body = write_infer(InferenceResponse("m", 1, (Tensor.of("y", np.array(2, dtype=np.int64)),)), "r").text
    assert json.loads(body)["outputs"] == [{"name": "y", "shape": [], "datatype": "INT64", "data": [2]}]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
INPUTS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["x", "n", "s"]) | JSON,
        "shape": st.lists(st.integers(0, 3), max_size=3) | JSON,
        "datatype": st.sampled_from(["FP32", "INT8", "BYTES"]) | JSON,
        "parameters": st.dictionaries(st.sampled_from(["content_type", "binary_data_size"]), JSON) | JSON,
        "data": JSON,
    },
)
DOCUMENTS = st.fixed_dictionaries(
    {"inputs": st.lists(INPUTS, max_size=3) | JSON}, optional={"id": JSON, "outputs": JSON, "parameters": JSON}
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    body = bytearray(draw(st.just(a_body(id="1")) | DOCUMENTS.map(lambda document: json.dumps(document).encode())))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(body)))
        end = min(len(body), start + draw(st.integers(0, 4)))
        body[start:end] = draw(
            st.binary(max_size=3) | st.sampled_from([b"[", b"]", b"{", b"null", b"1e999", b"NaN", b","])
        )
    return bytes(body)


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")) | mutated())
@settings(max_examples=400, deadline=None)
@example(b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [9223372036854775807, 0], "data": []}]}')
@example(b'{"inputs": [{"name": {}, "datatype": [], "data": NaN}]}')
@example(b'{"inputs": [{"name": "x", "datatype": [], "shape": [1], "data": [1]}]}')
def test_no_bytes_raise_anything_but_errors_of_ours(body: bytes) -> None:
    for signature in (PAIRS, MIXED, one(Datatype.BYTES, -1), one(Datatype.FP32), one(Datatype.INT64, -1, -1, -1)):
        try:
            request, *_ = read_infer(body, signature)
        except GatewayError as error:
            write_error(error.detail, "r")
        else:
            assert signature.check(request.inputs) == request.n_rows


def test_the_server_and_a_model_describe_themselves() -> None:
    assert json.loads(write_server_metadata("maas-gateway", "0.1")) == {
        "name": "maas-gateway",
        "version": "0.1",
        "extensions": [],
    }
    assert json.loads(write_model_metadata("m", [2, 1], "keras_keras", PAIRS)) == {
        "name": "m",
        "versions": ["2", "1"],
        "platform": "keras_keras",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [-1, 1]},
            {"name": "z", "datatype": "BYTES", "shape": [-1]},
        ],
    }


@pytest.mark.parametrize(
    "name", [name for name in vars(schemas) if name.isupper() and not name.startswith("_")], ids=str
)
def test_a_schema_is_one_and_takes_its_own_examples(name: str) -> None:
    schema = getattr(schemas, name)
    jsonschema.Draft202012Validator.check_schema(schema)
    for case in schema["examples"]:
        jsonschema.validate(case, schema, cls=jsonschema.Draft202012Validator)


def test_bodies_that_we_write_fit_their_schemas() -> None:
    response = InferenceResponse("m", 1, (Tensor.of("y", np.ones((2, 1), dtype=np.float32)),))
    for body, schema in (
        (write_infer(response, "r").text, schemas.INFER_RESPONSE),
        (write_server_metadata("g", "1", ["parameters"]), schemas.SERVER_METADATA_RESPONSE),
        (write_model_metadata("m", [1], "p", MIXED), schemas.MODEL_METADATA_RESPONSE),
        (write_error("no \ud800", "r"), schemas.ERROR),
        (a_body(), schemas.INFER_REQUEST),
    ):
        jsonschema.validate(orjson.loads(body), schema, cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize("kind", [bytes, memoryview])
def test_text_of_a_raw_request_is_bytes_however_its_body_came(kind: type[bytes] | type[memoryview]) -> None:
    signature = ModelSignature((TensorSpec("x", Datatype.BYTES, (-1, 1)),), ())
    (tensor,) = read_infer(kind(b"caf\xe9"), signature, header=b"0").request.inputs
    assert tensor.array.tolist() == [[b"caf\xe9"]]
    assert type(tensor.array[0, 0]) is bytes
