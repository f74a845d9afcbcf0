"""TensorFlow Serving bodies: every rule, and what must hold for any bytes."""

import json
import math
import time

import jsonschema
import numpy as np
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from maas_gateway.errors import GatewayError, InvalidRequest, MalformedBody, SignatureMismatch, UnsupportedDatatype
from maas_gateway.protocols.tf_serving import schemas
from maas_gateway.protocols.tf_serving.codec import (
    Format,
    VersionState,
    VersionStatus,
    read_predict,
    write_error,
    write_metadata,
    write_models,
    write_predict,
    write_status,
)
from maas_gateway.tensors.datatypes import Datatype, datatype_of
from maas_gateway.tensors.inference import InferenceResponse
from maas_gateway.tensors.signature import ModelSignature, TensorSpec
from maas_gateway.tensors.tensor import Tensor

ROW_OF_30 = ModelSignature((TensorSpec("x", Datatype.FP32, (-1, 30)),), (TensorSpec("y", Datatype.FP32, (-1, 1)),))
PAIRS = ModelSignature((TensorSpec("x", Datatype.FP32, (-1, 2)),), ())
MIXED = ModelSignature(
    (
        TensorSpec("n", Datatype.INT8, (-1,)),
        TensorSpec("f", Datatype.FP64, (-1, 2)),
        TensorSpec("s", Datatype.BYTES, (-1,)),
        TensorSpec("b", Datatype.BOOL, (-1,)),
    ),
    (),
)


def one(datatype: Datatype, *shape: int) -> ModelSignature:
    return ModelSignature((TensorSpec("x", datatype, shape),), ())


def answer(*outputs: Tensor) -> InferenceResponse:
    return InferenceResponse("m", 1, tuple(outputs))


def refusal(body: bytes, signature: ModelSignature = PAIRS, error: type[GatewayError] = GatewayError) -> str:
    with pytest.raises(error) as caught:
        read_predict(body, signature)
    caught.value.detail.encode()
    return caught.value.detail


@pytest.mark.parametrize("datatype", [Datatype.FP32, Datatype.INT32, Datatype.UINT8], ids=str)
@pytest.mark.parametrize("bad", ["true", "false", "null", '"1"', "[]", "{}", "[1]", "x", "1e999", ""], ids=str)
@pytest.mark.parametrize("key", ["instances", "inputs"])
def test_nothing_but_numbers_passes_for_numbers(bad: str, key: str, datatype: Datatype) -> None:
    for row in (f"[1, {bad}]", f"[{bad}, 1]", f"[{bad}, {bad}]"):
        body = f'{{"{key}": [[1, 2], {row}]}}'.encode()
        assert issubclass(type(_caught(body, one(datatype, -1, 2))), InvalidRequest)


def _caught(body: bytes, signature: ModelSignature) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        read_predict(body, signature)
    return caught.value


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param(b'{"instances": [[1,2],[1,2],null]}', "(at instances[2])", id="row"),
        pytest.param(b'{"instances": [[1,2],[1,true]]}', "(at instances[1][1])", id="element"),
        pytest.param(b'{"instances": [{"x":[1,2]},{"x":[1,"a"]}]}', "(at instances[1]['x'][1])", id="row object"),
        pytest.param(b'{"inputs": [[1,2],[1,null]]}', "(at inputs[1][1])", id="column"),
        pytest.param(b'{"inputs": {"x": [[1,2],[1,null]]}}', "(at inputs['x'][1][1])", id="named column"),
        pytest.param(b'{"instances": [[1,2,3]]}', "input 'x': expected shape [-1, 2] and got [1, 3]", id="width"),
        pytest.param(b'{"instances": [1]}', "input 'x': expected shape [-1, 2] and got [1]", id="rank"),
        pytest.param(b'{"inputs": 1}', "input 'x': expected shape [-1, 2] and got []", id="scalar"),
        pytest.param(b'{"inputs": []}', "input 'x': expected shape", id="nothing"),
        pytest.param(b'{"inputs": null}', "JSON Value: null", id="null"),
        pytest.param(b'{"inputs": {}}', "Missing named input: x", id="no column"),
        pytest.param(b'{"instances": null}', "Expecting 'instances' to be an list/array", id="null instances"),
        pytest.param(b'{"instances": [{}]}', "keys must be equal to: x", id="empty object"),
    ],
)
def test_a_refusal_names_the_place(body: bytes, said: str) -> None:
    assert said in refusal(body)


def test_no_rows_in_a_column_are_refused() -> None:
    assert refusal(b'{"inputs": []}', one(Datatype.FP32, -1)) == "input 'x': at least one row is needed"


def test_columns_of_unequal_length_are_refused() -> None:
    body = b'{"inputs": {"n": [1,2], "f": [[1,2]], "s": ["a"], "b": [true]}}'
    assert refusal(body, MIXED, SignatureMismatch) == "input 'f': 1 rows where other inputs have 2"


def test_an_integer_is_checked_against_its_own_range() -> None:
    assert "300 is out of range for type: int8 (at instances[1])" in refusal(
        b'{"instances": [1, 300]}', one(Datatype.INT8, -1)
    )


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity", "1.0", "1e2"])
def test_no_real_number_or_token_passes_for_an_integer(token: str) -> None:
    assert "is not of expected type: int32" in refusal(f'{{"instances": [{token}]}}'.encode(), one(Datatype.INT32, -1))


@pytest.mark.parametrize("datatype", [Datatype.FP16, Datatype.UINT16], ids=str)
def test_what_json_does_not_carry_is_unsupported_in_columns_and_an_error_of_the_row_in_rows(datatype: Datatype) -> None:
    name = datatype.tensorflow[3:].lower()
    assert refusal(b'{"inputs": [1]}', one(datatype, -1), UnsupportedDatatype).endswith(f"to type: {name} (at inputs)")
    rows = "Failed to process element: 0 of 'instances' list. Error: UNIMPLEMENTED: "
    assert refusal(b'{"instances": [1]}', one(datatype, -1), SignatureMismatch).startswith(rows)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param(b"", "The document is empty at offset: 0", id="empty"),
        pytest.param(b" \n\t ", "The document is empty at offset: 4", id="blank"),
        pytest.param(b"\xef\xbb\xbf", "The document is empty at offset: 3", id="byte order mark alone"),
        pytest.param(b"[1]", "JSON Value Type: Array where the body must be an Object", id="list"),
        pytest.param(b"NaN", "JSON Value Type: Number where", id="token"),
        pytest.param(b'{"instances": [[1,2]', "JSON Parse error: Expecting ',' delimiter at offset: 20", id="cut"),
        pytest.param('{"ä": '.encode(), "at offset: 7", id="offsets are of bytes"),
        pytest.param(b'{"a": "\xff"}', "Invalid encoding in string. at offset: 7", id="no UTF-8"),
        pytest.param(b'{"instances": [[' + b"1" * 5000 + b",2]]}", "Number too big", id="thousands of digits"),
        pytest.param(b'{"instances": ' + b"[" * 100_000, "JSON Parse error: Nested too deeply", id="deep"),
        pytest.param(b'{"instances": ' + b"[" * 900 + b"]" * 900 + b"}", "nested more than 32 lists", id="too deep"),
        pytest.param(b'{"instances": ' + b"[" * 33 + b"]" * 33 + b"}", "nested more than 32 lists", id="one too deep"),
        pytest.param(b'{"instances": ' + b'{"a":' * 100_000, "JSON Parse error: Nested too deeply", id="deep objects"),
    ],
)
def test_a_body_that_is_no_document_is_refused(body: bytes, said: str) -> None:
    assert said in refusal(body, error=InvalidRequest)


def test_reading_stops_where_the_document_ends() -> None:
    request, _ = read_predict(b'\xef\xbb\xbf {"instances": [[1, 2]]}\xff{{{', PAIRS)
    assert request.inputs[0].array.tolist() == [[1, 2]]


def test_the_lenient_parser_reads_a_lone_surrogate_and_the_door_refuses_it() -> None:
    assert "surrogate" in refusal(b'{"instances": ["\\ud800"]}', one(Datatype.BYTES, -1))
    assert "does not have named input: \\ud800" in refusal(b'{"instances": [{"\\ud800": 1}]}')
    assert "not found in signature def" in refusal(b'{"signature_name": "\\ud800", "inputs": 1}')


@pytest.mark.parametrize("name", ["", "serving_default"])
def test_the_default_signature_may_be_named(name: str) -> None:
    request, form = read_predict(json.dumps({"signature_name": name, "instances": [[1, 2]]}).encode(), PAIRS)
    assert form is Format.ROW
    assert request.n_rows == 1


def test_objects_read_into_inputs_of_each_datatype_in_the_signatures_order() -> None:
    body = b'{"instances": [{"b":true,"s":{"b64":"AP8="},"f":[1,NaN],"n":-128},{"b":false,"s":"","f":[2,3.5],"n":127}]}'
    request, _ = read_predict(body, MIXED)
    n, f, s, b = (tensor.array for tensor in request.inputs)
    assert request.n_rows == 2
    assert n.tolist() == [-128, 127]
    np.testing.assert_array_equal(f, [[1, math.nan], [2, 3.5]])
    assert s.tolist() == [b"\x00\xff", b""]
    assert b.tolist() == [True, False]


def test_a_lone_base64_object_is_a_value_and_not_a_row_or_columns() -> None:
    request, _ = read_predict(b'{"inputs": {"b64": "YQ=="}}', one(Datatype.BYTES))
    assert request.inputs[0].array.tolist() == b"a"
    request, _ = read_predict(
        b'{"inputs": {"b64": ["a"]}}', ModelSignature((TensorSpec("b64", Datatype.BYTES, (-1,)),), ())
    )
    assert request.inputs[0].array.tolist() == [b"a"]


def test_an_answer_may_be_a_slice_of_a_batch() -> None:
    batch = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert write_predict(answer(Tensor.of("y", batch[1:2])), Format.ROW) == b'{"predictions":[[2.0,3.0]]}'


@pytest.mark.parametrize("dtype", [np.int64, np.longlong, np.uint64, np.ulonglong, np.float32, np.bool_])
def test_a_row_may_be_a_scalar_of_either_kind_of_64_bits(dtype: type[np.generic]) -> None:
    label, score = np.array([1, 0], dtype), np.array([[0.5], [np.nan]], np.float32)
    given = answer(Tensor("label", datatype_of(dtype), label), Tensor.of("score", score))
    one, none = ("true", "false") if dtype is np.bool_ else ("1.0", "0.0") if dtype is np.float32 else ("1", "0")
    rows = f'{{"label":{one},"score":[0.5]}},{{"label":{none},"score":[NaN]}}'
    assert write_predict(given, Format.ROW).decode() == f'{{"predictions":[{rows}]}}'


@pytest.mark.parametrize("form", Format, ids=str)
def test_text_that_is_not_utf8_is_refused_by_the_outputs_name(form: Format) -> None:
    output = Tensor("label", Datatype.BYTES, np.array([b"\xff"], dtype=np.object_))
    with pytest.raises(InvalidRequest, match="output 'label' has bytes that are not UTF-8"):
        write_predict(answer(output), form)


def test_text_may_be_strings() -> None:
    output = Tensor("label", Datatype.BYTES, np.array(["ä", b"b"], dtype=np.object_))
    assert json.loads(write_predict(answer(output), Format.ROW)) == {"predictions": ["ä", "b"]}


def test_text_with_a_lone_surrogate_is_refused() -> None:
    output = Tensor("label", Datatype.BYTES, np.array(["\ud800"], dtype=np.object_))
    with pytest.raises(InvalidRequest, match="not UTF-8"):
        write_predict(answer(output), Format.COLUMN)


def test_a_bare_scalar_may_be_a_token() -> None:
    assert write_predict(answer(Tensor.of("y", np.array(-np.inf))), Format.COLUMN) == b'{"outputs":-Infinity}'


FLOATS = arrays.arrays(
    st.sampled_from([np.float32, np.float64, np.float16]),
    arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4),
)


@settings(deadline=None)
@given(
    FLOATS, st.sampled_from(Format), st.sampled_from(["y", "null", '"'])
)  # names that the tokens could be mistaken in
def test_floats_round_trip_bit_for_bit(array: np.ndarray, form: Format, name: str) -> None:
    body = write_predict(answer(Tensor.of(name, array)), form)
    value = json.loads(body)[form.value.decode()]
    np.testing.assert_array_equal(np.array(value, dtype=array.dtype).reshape(array.shape), array)
    if array.shape[0]:
        pair = write_predict(answer(Tensor.of(name, array), Tensor.of("other", array)), Format.ROW)
        rows = [row[name] for row in json.loads(pair)["predictions"]]
        np.testing.assert_array_equal(np.array(rows, dtype=array.dtype).reshape(array.shape), array)


@settings(deadline=None)
@given(
    arrays.arrays(
        st.sampled_from([d.numpy for d in Datatype if d not in (Datatype.FP16, Datatype.UINT16, Datatype.BYTES)]),
        st.tuples(st.integers(1, 4), st.integers(1, 3)),
    ),
    st.sampled_from(Format),
)
def test_arrays_round_trip_through_an_answer_and_a_request(array: np.ndarray, form: Format) -> None:
    body = write_predict(answer(Tensor.of("x", array)), form)
    key = b"instances" if form is Format.ROW else b"inputs"
    tensor = Tensor.of("x", array)
    request, read_form = read_predict(body.replace(form.value, key, 1), one(tensor.datatype, -1, array.shape[1]))
    assert read_form is form
    assert request.n_rows == len(array)
    np.testing.assert_array_equal(request.inputs[0].array, array, strict=True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["x", "n", "f", "s", "b", "b64"]), inner)
    ),
    max_leaves=15,
)
DOCUMENTS = st.dictionaries(st.sampled_from(["instances", "inputs", "signature_name"]), JSON)
VALID = b'{"instances": [{"b":true,"s":{"b64":"AP8="},"f":[1,NaN],"n":-128}], "signature_name": "serving_default"}'


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    body = bytearray(draw(st.just(VALID) | DOCUMENTS.map(lambda document: json.dumps(document).encode())))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(body)))
        end = min(len(body), start + draw(st.integers(0, 4)))
        body[start:end] = draw(
            st.binary(max_size=3) | st.sampled_from([b"[", b"]", b"{", b"null", b"1e999", b'"', b","])
        )
    return bytes(body)


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")) | mutated())
@settings(max_examples=400, deadline=None)
@example(b'{"inputs": {"b64": "\xed\xa0\x80"}}')
@example(b"\xff\xfe{\x00}\x00")
def test_no_bytes_raise_anything_but_errors_of_ours(body: bytes) -> None:
    for signature in (ROW_OF_30, MIXED, one(Datatype.BYTES, -1), one(Datatype.FP16, -1), one(Datatype.INT64)):
        try:
            request, _ = read_predict(body, signature)
        except GatewayError as error:
            write_error(error.detail, "r")
        else:
            assert signature.check(request.inputs) == request.n_rows


def test_status_lists_the_newest_first_and_what_kserve_reads() -> None:
    body = write_status(
        "m",
        [
            VersionStatus(9, VersionState.AVAILABLE),
            VersionStatus(10, VersionState.END, "NOT_FOUND", "It did not load."),
        ],
    )
    assert json.loads(body) == {
        "name": "m",
        "ready": True,
        "model_version_status": [
            {
                "version": "10",
                "state": "END",
                "status": {"error_code": "NOT_FOUND", "error_message": "It did not load."},
            },
            {"version": "9", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}},
        ],
    }


def test_a_model_without_an_available_version_is_not_ready() -> None:
    assert json.loads(write_status("m", [VersionStatus(1, VersionState.LOADING)]))["ready"] is False


def test_metadata_nests_the_signature_twice() -> None:
    signature = ModelSignature((TensorSpec("x", Datatype.FP32, (-1, 1)),), (TensorSpec("y", Datatype.BYTES, ()),))
    shape = {"dim": [{"size": "-1", "name": ""}, {"size": "1", "name": ""}], "unknown_rank": False}
    assert json.loads(write_metadata("m", 123, signature)) == {
        "model_spec": {"name": "m", "signature_name": "", "version": "123"},
        "metadata": {
            "signature_def": {
                "signature_def": {
                    "serving_default": {
                        "inputs": {"x": {"dtype": "DT_FLOAT", "tensor_shape": shape, "name": "x:0"}},
                        "outputs": {
                            "y": {
                                "dtype": "DT_STRING",
                                "tensor_shape": {"dim": [], "unknown_rank": False},
                                "name": "y:0",
                            }
                        },
                        "method_name": "tensorflow/serving/predict",
                        "defaults": {},
                    }
                }
            }
        },
    }


def test_an_error_holds_the_sentence_and_the_request_id_whatever_the_sentence() -> None:
    assert json.loads(write_error("no \ud800", "r1")) == {"error": "no ?", "request_id": "r1"}


@pytest.mark.parametrize(
    "name", [name for name in vars(schemas) if name.isupper() and not name.startswith("_")], ids=str
)
def test_a_schema_is_one_and_takes_its_own_examples(name: str) -> None:
    schema = getattr(schemas, name)
    jsonschema.Draft202012Validator.check_schema(schema)
    for case in schema["examples"]:
        jsonschema.validate(case, schema, cls=jsonschema.Draft202012Validator)


def test_bodies_that_we_write_fit_their_schemas() -> None:
    for body, schema in (
        (write_status("m", [VersionStatus(1, VersionState.START)]), schemas.STATUS_RESPONSE),
        (write_metadata("m", 1, MIXED), schemas.METADATA_RESPONSE),
        (write_models(["m"]), schemas.MODELS_RESPONSE),
        (write_error("x", "r"), schemas.ERROR),
        (write_predict(answer(Tensor.of("y", np.ones(2))), Format.ROW), schemas.PREDICT_RESPONSE),
    ):
        jsonschema.validate(orjson.loads(body), schema, cls=jsonschema.Draft202012Validator)


def test_the_work_grows_with_the_body_and_not_faster() -> None:
    """With a fault at the very end; work that grew with the square would take 256 times as long, not 16."""
    took: dict[int, float] = {}
    for n_rows in (4_000, 64_000) * 3:
        body = orjson.dumps({"instances": [[1.0, 2.0]] * n_rows + [[1.0, None]]})
        start = time.process_time()
        assert f"instances[{n_rows}][1]" in refusal(body, error=SignatureMismatch)
        took[n_rows] = min(took.get(n_rows, math.inf), time.process_time() - start)
    assert took[64_000] < 100 * took[4_000]


def test_many_long_strings_take_memory_once() -> None:
    body = orjson.dumps({"instances": ["x" * 100_000] + [1.5] * 50_000})
    assert "Type: String" in refusal(body, one(Datatype.FP32, -1))


def test_a_malformed_body_is_its_own_class() -> None:
    assert refusal(b"{", error=MalformedBody)
