"""The bodies in the JSON files beside this one, read and written as the specification says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maas_gateway import errors
from maas_gateway.protocols.open_inference.codec import read_infer, write_infer
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.inference import InferenceResponse
from maas_gateway.tensors.signature import ModelSignature
from maas_gateway.tensors.tensor import Tensor

HERE = Path(__file__).parent
TOKENS = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}
REQUESTS = json.loads((HERE / "infer_requests.json").read_text(encoding="utf-8"))
ANSWERS = json.loads((HERE / "infer_answers.json").read_text(encoding="utf-8"))


def an_array(value: object, datatype: Datatype) -> np.ndarray:
    array = np.array(value, dtype=np.object_)
    if datatype is Datatype.BYTES:
        flat = [element.encode() for element in array.ravel().tolist()]
        return np.array(flat, dtype=np.object_).reshape(array.shape)
    flat = [TOKENS.get(element, element) for element in array.ravel().tolist()]
    return np.array(flat, dtype=datatype.numpy).reshape(array.shape)


@pytest.mark.parametrize("case", REQUESTS["cases"], ids=lambda case: case["name"])
def test_a_request_reads_as_specified(case: dict[str, Any]) -> None:
    signature = ModelSignature.from_json(REQUESTS["signatures"][case["signature"]])
    body = json.dumps(case["body"]).encode()
    if "error" in case:
        with pytest.raises(errors.GatewayError) as caught:
            read_infer(body, signature, model="m")
        assert type(caught.value).__name__ == case["error"]
        assert case["says"] in caught.value.detail
        return
    request, request_id, _ = read_infer(body, signature, model="m")
    assert request_id == case["id"]
    assert list(request.outputs) == case["outputs"]
    assert [tensor.name for tensor in request.inputs] == [spec.name for spec in signature.inputs]
    for tensor, spec in zip(request.inputs, signature.inputs, strict=True):
        assert tensor.datatype is spec.datatype
        np.testing.assert_array_equal(tensor.array, an_array(case["inputs"][spec.name], spec.datatype), strict=True)


@pytest.mark.parametrize("case", ANSWERS["cases"], ids=lambda case: case["name"])
def test_an_answer_is_written_as_specified(case: dict[str, Any]) -> None:
    outputs = tuple(
        Tensor(out["name"], Datatype(out["datatype"]), an_array(out["value"], Datatype(out["datatype"])))
        for out in case["outputs"]
    )
    response = InferenceResponse("m", 3, outputs)
    if "error" in case:
        with pytest.raises(errors.GatewayError) as caught:
            write_infer(response, "42")
        assert type(caught.value).__name__ == case["error"]
        assert case["says"] in caught.value.detail
        return
    assert json.loads(write_infer(response, "42").text) == case["body"]
