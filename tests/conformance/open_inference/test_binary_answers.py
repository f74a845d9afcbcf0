"""What a request asks its outputs to be, in the file beside this one, answered as the extensions say."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maas_gateway import errors
from maas_gateway.protocols.open_inference.codec import read_infer, write_infer
from maas_gateway.protocols.open_inference.grpc import codec as grpc_codec
from maas_gateway.protocols.open_inference.grpc.messages import message_class
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.inference import InferenceResponse
from maas_gateway.tensors.signature import ModelSignature, TensorSpec
from maas_gateway.tensors.tensor import Tensor

VECTORS = json.loads((Path(__file__).parent / "binary_answers.json").read_text(encoding="utf-8"))
ENTRY = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}


def _tensor(described: dict[str, Any]) -> Tensor:
    datatype = Datatype(described["datatype"])
    objects = np.array(described["value"], np.object_)
    values = [element.encode() if datatype is Datatype.BYTES else float(element) for element in objects.ravel()]
    array = np.array(values, np.object_).astype(datatype.numpy).reshape(objects.shape)
    return Tensor(described["name"], datatype, array)


OUTPUTS = {described["name"]: _tensor(described) for described in VECTORS["outputs"]}
SIGNATURE = ModelSignature(
    (TensorSpec("x", Datatype.FP32, (-1, 1)),),
    tuple(TensorSpec(t.name, t.datatype, (-1, *t.array.shape[1:])) for t in OUTPUTS.values()),
)


def _response(names: tuple[str, ...]) -> InferenceResponse:
    return InferenceResponse("m", 3, tuple(OUTPUTS[name] for name in names or OUTPUTS))


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_outputs_are_answered_as_they_were_asked_for(case: dict[str, Any]) -> None:
    asked = read_infer(json.dumps({"inputs": [ENTRY], **case["asks"]}).encode(), SIGNATURE, model="m")
    if "error" in case:
        with pytest.raises(errors.GatewayError) as caught:
            write_infer(_response(asked.request.outputs), "42", asked.form)
        assert type(caught.value).__name__ == case["error"]
        assert case["says"] in caught.value.detail
        return
    written = write_infer(_response(asked.request.outputs), "42", asked.form)
    document, raw = json.loads(written.text), b"".join(written.raw)
    assert document == {"model_name": "m", "model_version": "3", "id": "42", "outputs": case["entries"]}
    assert raw.hex() == case.get("raw", "")


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_messages_answer_the_same_and_always_in_raw_bytes(case: dict[str, Any]) -> None:
    message = message_class("inference.ModelInferRequest")(model_name="m")
    message.inputs.add(name="x", datatype="FP32", shape=[1, 1]).contents.fp32_contents.append(1)
    for output in case["asks"].get("outputs", []):
        added = message.outputs.add(name=output["name"])
        n_classes = output.get("parameters", {}).get("classification")
        if n_classes is not None:
            added.parameters["classification"].int64_param = n_classes
    asked = grpc_codec.read_infer(grpc_codec.take_apart(message.SerializeToString()), SIGNATURE)
    response = _response(asked.request.outputs)
    if "classification" in case.get("says", ""):
        with pytest.raises(errors.InvalidRequest, match="classification needs numbers"):
            grpc_codec.write_infer(response, "42", asked.form)
        return
    answer = message_class("inference.ModelInferResponse").FromString(
        grpc_codec.write_infer(response, "42", asked.form)
    )
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "3", "42")
    assert len(answer.raw_output_contents) == len(answer.outputs)
    assert not any(output.HasField("contents") for output in answer.outputs)
    for entry, output, raw in zip(case.get("entries", []), answer.outputs, answer.raw_output_contents, strict=False):
        assert (output.name, output.datatype, list(output.shape)) == (entry["name"], entry["datatype"], entry["shape"])
        if "data" in entry and entry["datatype"] == "BYTES":
            texts = [text.encode() for text in entry["data"]]
            assert raw == b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    if all("data" not in entry for entry in case.get("entries", [{"data": []}])):
        assert b"".join(answer.raw_output_contents).hex() == case["raw"]
