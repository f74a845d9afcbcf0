"""The requests of the JSON form's vectors, sent as messages: the same tensors, the same sentences."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maas_gateway import errors
from maas_gateway.protocols.open_inference.codec import Asked, read_infer
from maas_gateway.protocols.open_inference.grpc import codec
from maas_gateway.protocols.open_inference.grpc.messages import message_class
from maas_gateway.tensors.signature import ModelSignature

HERE = Path(__file__).parent
REQUESTS = json.loads((HERE / "infer_requests.json").read_text(encoding="utf-8"))
BINARY = json.loads((HERE / "binary_requests.json").read_text(encoding="utf-8"))

OF_JSON_ONLY = {
    "ragged data": "contents are flat",
    "strings in base64": "bytes go as they are",
    "fewer bytes than announced": "raw bytes are a field, whose length is its own",
    "more bytes than announced": "the same",
    "a size that is negative": "the same",
    "a size that is text": "the same",
}
SENTENCES = {
    "and 'data' has": "and 'contents' has",
    "JSON Value: 256 is out of range for type: UINT8 (at data[1])": "256 is out of range for type: UINT8 (at contents[1])",
    "receiving FP16 data via JSON is not supported. Please use the binary data format for input h": (
        "receiving FP16 data in contents is not supported. Please use raw_input_contents for input h"
    ),
    "'data', 'binary_data_size' in 'parameters'": "'contents', 'raw_input_contents'",
}
"""What is called otherwise in messages."""
FIELDS = {
    "BOOL": "bool_contents",
    "UINT32": "uint_contents",
    "UINT8": "uint_contents",
    "INT16": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP16": "fp32_contents",
    "fp32": "fp32_contents",
    "BYTES": "bytes_contents",
}


def _message(body: dict[str, Any], raw: bytes = b"") -> codec.InferMessage:
    """Return the message that says what a JSON body does."""
    message = message_class("inference.ModelInferRequest")(model_name="m", id=body.get("id", ""))
    _set(message.parameters, body.get("parameters", {}))
    for entry in body["inputs"]:
        tensor = message.inputs.add(name=entry["name"], datatype=entry["datatype"], shape=entry["shape"])
        if "data" in entry:
            flat = np.array(entry["data"], np.object_).ravel().tolist()
            values = [value.encode() if isinstance(value, str) else value for value in flat]
            getattr(tensor.contents, FIELDS[entry["datatype"]]).extend(values)
        n_bytes = entry.get("parameters", {}).get("binary_data_size")
        if n_bytes is not None:
            message.raw_input_contents.append(raw[:n_bytes])
            raw = raw[n_bytes:]
    for entry in body.get("outputs", []):
        _set(message.outputs.add(name=entry["name"]).parameters, entry.get("parameters", {}))
    return codec.take_apart(message.SerializeToString())


def _set(parameters: Any, values: dict[str, Any]) -> None:
    for name, value in values.items():
        parameters[name].int64_param = value


def _is_same(found: Asked, expected: Asked) -> None:
    assert (found.request_id, found.form) == (expected.request_id, expected.form)
    assert found.request._replace(inputs=()) == expected.request._replace(inputs=())
    for mine, other in zip(found.request.inputs, expected.request.inputs, strict=True):
        assert (mine.name, mine.datatype) == (other.name, other.datatype)
        np.testing.assert_array_equal(mine.array, other.array, strict=True)


def _both_ways(case: dict[str, Any], signature: ModelSignature, message: codec.InferMessage, asked: Any) -> None:
    if "error" not in case:
        _is_same(codec.read_infer(message, signature), asked())
        return
    says = case["says"]
    for of_json, of_grpc in SENTENCES.items():
        says = says.replace(of_json, of_grpc)
    with pytest.raises(errors.GatewayError) as caught:
        codec.read_infer(message, signature)
    assert type(caught.value).__name__ == case["error"]
    assert says in caught.value.detail


@pytest.mark.parametrize("case", REQUESTS["cases"], ids=lambda case: case["name"])
def test_a_message_is_read_as_the_json_of_the_same_request(case: dict[str, Any]) -> None:
    if case["name"] in OF_JSON_ONLY:
        pytest.skip(OF_JSON_ONLY[case["name"]])
    signature = ModelSignature.from_json(REQUESTS["signatures"][case["signature"]])
    body = json.dumps(case["body"]).encode()
    _both_ways(case, signature, _message(case["body"], bytes(8)), lambda: read_infer(body, signature, model="m"))


@pytest.mark.parametrize(
    "case", [case for case in BINARY["cases"] if case.get("json", {}).get("inputs")], ids=lambda case: case["name"]
)
def test_a_message_is_read_as_the_raw_bytes_of_the_same_request(case: dict[str, Any]) -> None:
    if case["name"] in OF_JSON_ONLY:
        pytest.skip(OF_JSON_ONLY[case["name"]])
    signature = ModelSignature.from_json(BINARY["signatures"][case["signature"]])
    text, raw = json.dumps(case["json"]).encode(), bytes.fromhex(case["raw"])
    body = case["json"]
    if any("data" in entry for entry in body["inputs"]):  # one input as JSON: as raw bytes here, like the other
        whole = read_whole(body, raw)
        body, raw = whole
    header = str(len(text)).encode()
    _both_ways(
        case,
        signature,
        _message(body, raw),
        lambda: read_infer(text + bytes.fromhex(case["raw"]), signature, header=header, model="m"),
    )


def read_whole(body: dict[str, Any], raw: bytes) -> tuple[dict[str, Any], bytes]:
    """Return a body all of whose inputs are raw bytes, and those bytes."""
    entries, pieces = [], []
    for entry in body["inputs"]:
        if "data" in entry:
            piece = np.array(entry["data"], "<i2").tobytes()
        else:
            n_bytes = entry["parameters"]["binary_data_size"]
            piece, raw = raw[:n_bytes], raw[n_bytes:]
        pieces.append(piece)
        kept = {name: value for name, value in entry.items() if name != "data"}
        entries.append(kept | {"parameters": {"binary_data_size": len(piece)}})
    return {**body, "inputs": entries}, b"".join(pieces)
