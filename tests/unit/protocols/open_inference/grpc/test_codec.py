"""Infer messages, as the Protocol Buffers library writes them, to tensors and back."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas_gateway import errors
from maas_gateway.protocols.open_inference.codec import Asked
from maas_gateway.protocols.open_inference.grpc import codec
from maas_gateway.protocols.open_inference.grpc.messages import message_class, written
from maas_gateway.protocols.open_inference.outputs import AnswerForm, OutputForm
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.inference import InferenceResponse
from maas_gateway.tensors.signature import ModelSignature, TensorSpec
from maas_gateway.tensors.tensor import Tensor

X = TensorSpec("x", Datatype.FP32, (-1, 2))
SIGNATURE = ModelSignature((X,), (TensorSpec("y", Datatype.FP32, (-1,)),))
ROW = {"name": "x", "datatype": "FP32", "shape": [1, 2], "contents": {"fp32_contents": [1.5, 2.5]}}
BARE = {name: value for name, value in ROW.items() if name != "contents"}


def _message(**fields: Any) -> bytes:
    return written("inference.ModelInferRequest", {"model_name": "m", "inputs": [ROW], **fields})


def _read(message: bytes, signature: ModelSignature = SIGNATURE) -> Asked:
    return codec.read_infer(codec.take_apart(message), signature)


@pytest.mark.parametrize(
    ("datatype", "name", "values"),
    [
        ("BOOL", "bool_contents", [True, False]),
        ("INT8", "int_contents", [-128, 127]),
        ("INT16", "int_contents", [-(2**15), 2**15 - 1]),
        ("INT32", "int_contents", [-(2**31), 2**31 - 1]),
        ("INT64", "int64_contents", [-(2**63), 2**63 - 1]),
        ("UINT8", "uint_contents", [0, 255]),
        ("UINT16", "uint_contents", [0, 2**16 - 1]),
        ("UINT32", "uint_contents", [0, 2**32 - 1]),
        ("UINT64", "uint64_contents", [0, 2**64 - 1]),
        ("FP32", "fp32_contents", [1.5, float("inf")]),
        ("FP64", "fp64_contents", [1e300, float("nan")]),
        ("BYTES", "bytes_contents", [b"\xff\x00", b""]),
    ],
)
def test_every_datatype_is_read_from_its_field_and_from_raw_bytes(datatype: str, name: str, values: list[Any]) -> None:
    spec = TensorSpec("t", Datatype(datatype), (-1,))
    signature = ModelSignature((spec,), ())
    expected = np.array(values, spec.datatype.numpy)
    request = message_class("inference.ModelInferRequest")(model_name="m")
    tensor = request.inputs.add(name="t", datatype=datatype, shape=[2])
    getattr(tensor.contents, name).extend(values)
    typed = _read(request.SerializeToString(), signature).request.inputs[0]
    tensor.ClearField("contents")
    raw = b"".join(len(v).to_bytes(4, "little") + v for v in values) if datatype == "BYTES" else expected.tobytes()
    request.raw_input_contents.append(raw)
    exact = _read(request.SerializeToString(), signature).request.inputs[0]
    for found in (typed, exact):
        assert found.datatype is spec.datatype
        assert found.array.flags.aligned
        np.testing.assert_array_equal(found.array, expected, strict=True)


def test_numbers_that_are_not_packed_are_read() -> None:
    loose = b"".join(bytes((0x35,)) + np.float32(value).tobytes() for value in (1.5, 2.5))
    tensor = written("inference.ModelInferRequest.InferInputTensor", BARE) + codec.wire.field(5, loose)
    message = codec.wire.field(1, b"m") + codec.wire.field(5, tensor)
    np.testing.assert_array_equal(_read(message).request.inputs[0].array, [[1.5, 2.5]])


def test_numbers_of_another_width_are_refused() -> None:
    wide = bytes((0x31,)) + np.array([1.5, 2.5], "<f4").tobytes()  # eight bytes as one fixed number
    tensor = written("inference.ModelInferRequest.InferInputTensor", BARE) + codec.wire.field(5, wide)
    with pytest.raises(errors.MalformedBody, match="input 'x': contents is a number"):
        _read(codec.wire.field(1, b"m") + codec.wire.field(5, tensor))


def test_parameters_are_honoured_whatever_their_type() -> None:
    asked = _read(
        _message(
            id="7",
            parameters={
                "priority": {"uint64_param": "3"},
                "timeout": {"int64_param": "2000000"},
                "mine": {"double_param": 0.5},
                "his": {"string_param": "s"},
                "triton_enable_empty_final_response": {"bool_param": True},
            },
            outputs=[{"name": "y", "parameters": {"classification": {"int64_param": "2"}}}],
        )
    )
    assert (asked.request_id, asked.request.priority, asked.request.timeout_s) == ("7", 3, 2.0)
    assert asked.form.of("y").n_classes == 2


@pytest.mark.parametrize(
    ("fields", "error", "says"),
    [
        pytest.param({"inputs": []}, errors.SignatureMismatch, "missing input 'x'", id="no input"),
        pytest.param({"inputs": [ROW, ROW]}, errors.SignatureMismatch, "input 'x' is given twice", id="an input twice"),
        pytest.param(
            {"inputs": [{**ROW, "name": "z"}]}, errors.SignatureMismatch, "unknown input 'z'", id="an unknown input"
        ),
        pytest.param(
            {"inputs": [{**ROW, "datatype": "fp32"}]},
            errors.SignatureMismatch,
            "unknown datatype 'fp32'",
            id="an unknown datatype",
        ),
        pytest.param(
            {"inputs": [{**ROW, "datatype": "INT64"}]},
            errors.SignatureMismatch,
            "expected FP32 and got INT64",
            id="another datatype",
        ),
        pytest.param(
            {"inputs": [{**ROW, "shape": [-1, 2]}]},
            errors.MalformedBody,
            "shape[0] must be an integer from 0",
            id="a negative dimension",
        ),
        pytest.param(
            {"inputs": [{**ROW, "shape": [1] * 33}]},
            errors.SignatureMismatch,
            "more than 32 dimensions",
            id="too many dimensions",
        ),
        pytest.param(
            {"inputs": [{**ROW, "shape": [1] * 400}]},
            errors.SignatureMismatch,
            "more than 32 dimensions",
            id="far too many dimensions",
        ),
        pytest.param(
            {"inputs": [BARE]}, errors.SignatureMismatch, "has 2 elements and 'contents' has 0", id="no values"
        ),
        pytest.param(
            {"inputs": [{**ROW, "shape": [2, 2]}]},
            errors.SignatureMismatch,
            "has 4 elements and 'contents' has 2",
            id="too few values",
        ),
        pytest.param(
            {"inputs": [{**ROW, "shape": [0, 2**62], "contents": {}}]},
            errors.SignatureMismatch,
            "is too large",
            id="no elements of an impossible shape",
        ),
        pytest.param(
            {"inputs": [{**ROW, "contents": {"int_contents": [1, 2]}}]},
            errors.SignatureMismatch,
            "values of FP32 belong into 'fp32_contents' and there is 'int_contents'",
            id="values in another field",
        ),
        pytest.param(
            {"raw_input_contents": ["AAAAAAAAAAA="]},
            errors.MalformedBody,
            "'contents', 'raw_input_contents'. But input 'x' has more than one of them",
            id="contents and raw bytes",
        ),
        pytest.param(
            {"inputs": [BARE], "raw_input_contents": ["AAAAAAAAAAA=", ""]},
            errors.MalformedBody,
            "'raw_input_contents' has 2 entries and there are 1 inputs",
            id="surplus raw bytes",
        ),
        pytest.param(
            {"inputs": [BARE], "raw_input_contents": ["AAAA"]},
            errors.SignatureMismatch,
            "takes 8 bytes and 3 were sent",
            id="raw bytes of another size",
        ),
        pytest.param(
            {"inputs": [BARE | {"shape": [0, 2**62]}], "raw_input_contents": [""]},
            errors.SignatureMismatch,
            "is too large",
            id="no raw bytes of an impossible shape",
        ),
        pytest.param(
            {"inputs": [{**ROW, "parameters": {"shared_memory_region": {"string_param": "r"}}}]},
            errors.Unsupported,
            "no shared memory",
            id="shared memory",
        ),
        pytest.param(
            {"outputs": [{"name": "q"}]}, errors.SignatureMismatch, "unexpected inference output 'q'", id="no output"
        ),
        pytest.param(
            {"outputs": [{"name": "y", "parameters": {"classification": {"int64_param": -1}}}]},
            errors.MalformedBody,
            "'classification' must be a number",
            id="classes below none",
        ),
        pytest.param(
            {"parameters": {"triton_x": {"bool_param": True}}},
            errors.InvalidRequest,
            "'triton_x'",
            id="a reserved parameter",
        ),
        pytest.param(
            {"parameters": {"sequence_id": {"uint64_param": 1}}},
            errors.Unsupported,
            "'sequence_id'",
            id="a sequence",
        ),
        pytest.param(
            {"parameters": {"timeout": {"string_param": "1"}}},
            errors.MalformedBody,
            "'timeout' must be a whole number",
            id="a timeout that is text",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(
    fields: dict[str, Any], error: type[errors.GatewayError], says: str
) -> None:
    with pytest.raises(error) as caught:
        _read(_message(**fields))
    assert says in caught.value.detail


@pytest.mark.parametrize(
    ("datatype", "contents", "says"),
    [
        ("UINT8", {"uint_contents": [1, 256]}, "256 is out of range for type: UINT8 (at contents[1])"),
        ("INT8", {"int_contents": [-129]}, "-129 is out of range for type: INT8 (at contents[0])"),
        ("INT16", {"int_contents": [2**15]}, "32768 is out of range for type: INT16"),
        ("FP16", {"fp32_contents": [1.0]}, "receiving FP16 data in contents is not supported"),
    ],
)
def test_values_beyond_a_datatype_are_refused(datatype: str, contents: dict[str, Any], says: str) -> None:
    signature = ModelSignature((TensorSpec("t", Datatype(datatype), (-1,)),), ())
    n_values = len(next(iter(contents.values())))
    tensor = {"name": "t", "datatype": datatype, "shape": [n_values], "contents": contents}
    with pytest.raises(errors.InvalidRequest) as caught:
        _read(_message(inputs=[tensor]), signature)
    assert says in caught.value.detail


@given(st.binary(max_size=200))
def test_any_bytes_within_a_request_are_read_or_refused(inside: bytes) -> None:
    for number in (4, 5, 6):
        message = codec.wire.field(1, b"m") + codec.wire.field(number, inside)
        try:
            _read(message)
        except errors.InvalidRequest:
            continue
        except errors.Unsupported:
            continue


@given(st.binary(max_size=60))
def test_any_contents_are_read_or_refused(inside: bytes) -> None:
    for datatype in ("BOOL", "INT8", "UINT64", "FP32", "BYTES"):
        signature = ModelSignature((TensorSpec("t", Datatype(datatype), (-1,)),), ())
        head = written(
            "inference.ModelInferRequest.InferInputTensor", {"name": "t", "datatype": datatype, "shape": [1]}
        )
        try:
            _read(codec.wire.field(5, head + codec.wire.field(5, inside)), signature)
        except errors.InvalidRequest:
            continue


def test_answers_are_what_the_library_reads() -> None:
    outputs = (
        Tensor.of("y", np.array([[0.25, 0.5], [0.75, float("nan")]], np.float32)),
        Tensor("s", Datatype.BYTES, np.array(["gr\u00fcn", b"\xff"], np.object_)),
        Tensor.of("h", np.array([1.5], np.float16)),
        Tensor.of("none", np.empty((2, 0), np.int64)),
    )
    answer = codec.write_infer(InferenceResponse("m", 3, outputs), "42", is_last_told=True)
    read = message_class("inference.ModelInferResponse").FromString(answer)
    assert (read.model_name, read.model_version, read.id) == ("m", "3", "42")
    assert read.parameters["triton_final_response"].bool_param
    assert [(out.name, out.datatype, list(out.shape)) for out in read.outputs] == [
        ("y", "FP32", [2, 2]),
        ("s", "BYTES", [2]),
        ("h", "FP16", [1]),
        ("none", "INT64", [2, 0]),
    ]
    assert list(read.raw_output_contents) == [
        outputs[0].array.tobytes(),
        b"\x05\x00\x00\x00gr\xc3\xbcn\x01\x00\x00\x00\xff",
        b"\x00\x3e",
        b"",
    ]


def test_classes_are_answered_as_text() -> None:
    response = InferenceResponse("m", 1, (Tensor.of("y", np.array([[0.25, 0.75]], np.float32)),))
    form = AnswerForm(outputs={"y": OutputForm(None, 1)})
    read = message_class("inference.ModelInferResponse").FromString(codec.write_infer(response, "1", form))
    assert (read.outputs[0].datatype, list(read.outputs[0].shape)) == ("BYTES", [1, 1])
    assert read.raw_output_contents[0] == b"\x0a\x00\x00\x000.750000:1"


def test_refusals_in_a_stream_name_their_request() -> None:
    known = codec.InferMessage(name="m", request_id="7")
    cases = [(known, ("m", "7")), (None, ("", "made"))]
    for message, expected in cases:
        written_ = codec.refused_in_stream("why \ud800", message, "made")
        read = message_class("inference.ModelStreamInferResponse").FromString(written_)
        assert read.error_message == "why ?"
        assert (read.infer_response.model_name, read.infer_response.id) == expected
