"""The bodies in the JSON files beside this one, read and written as the specification says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maas_gateway import errors
from maas_gateway.protocols.tf_serving.codec import Format, read_predict, write_predict
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.inference import InferenceResponse
from maas_gateway.tensors.signature import ModelSignature
from maas_gateway.tensors.tensor import Tensor

HERE = Path(__file__).parent
REQUESTS = json.loads((HERE / "predict_requests.json").read_text(encoding="utf-8"))
ANSWERS = json.loads((HERE / "predict_answers.json").read_text(encoding="utf-8"))


def an_array(value: object, datatype: Datatype) -> np.ndarray:
    array = np.array(value, dtype=np.object_)
    if datatype is Datatype.BYTES:
        flat = [element.encode() for element in array.ravel().tolist()]
        return np.array(flat, dtype=np.object_).reshape(array.shape)
    tokens = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}
    flat = [tokens.get(element, element) for element in array.ravel().tolist()]
    return np.array(flat, dtype=datatype.numpy).reshape(array.shape)


@pytest.mark.parametrize("case", REQUESTS["cases"], ids=lambda case: case["name"])
def test_a_request_reads_as_specified(case: dict[str, Any]) -> None:
    signature = ModelSignature.from_json(REQUESTS["signatures"][case["signature"]])
    body = case["body"].encode()
    if "error" in case:
        with pytest.raises(errors.GatewayError) as caught:
            read_predict(body, signature)
        assert type(caught.value).__name__ == case["error"]
        assert case["says"] in caught.value.detail
        return
    request, form = read_predict(body, signature)
    assert form is Format[case["form"]]
    assert [tensor.name for tensor in request.inputs] == [spec.name for spec in signature.inputs]
    for tensor, spec in zip(request.inputs, signature.inputs, strict=True):
        assert tensor.datatype is spec.datatype
        assert tensor.array.dtype == spec.datatype.numpy
        np.testing.assert_array_equal(tensor.array, an_array(case["inputs"][spec.name], spec.datatype), strict=True)


@pytest.mark.parametrize("case", ANSWERS["cases"], ids=lambda case: case["name"])
def test_an_answer_is_written_as_specified(case: dict[str, Any]) -> None:
    outputs = tuple(
        Tensor(out["name"], Datatype(out["datatype"]), an_array(out["value"], Datatype(out["datatype"])))
        for out in case["outputs"]
    )
    response = InferenceResponse("m", 1, outputs)
    if "error" in case:
        with pytest.raises(errors.GatewayError) as caught:
            write_predict(response, Format[case["form"]])
        assert type(caught.value).__name__ == case["error"]
        assert caught.value.detail == case["says"]
        return
    assert write_predict(response, Format[case["form"]]).decode() == case["text"]
