"""Bodies with raw bytes behind their JSON, in the file beside this one, read as the extension says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maas_gateway import errors
from maas_gateway.protocols.open_inference.codec import read_infer
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.signature import ModelSignature, TensorSpec

VECTORS = json.loads((Path(__file__).parent / "binary_requests.json").read_text(encoding="utf-8"))


def an_array(value: object, spec: TensorSpec) -> np.ndarray:
    array = np.array(value, dtype=np.object_)
    flat = [np.nan if element == "NaN" else element for element in array.ravel().tolist()]
    if spec.datatype is Datatype.BYTES:
        flat = [element.encode() for element in flat]
    return np.array(flat, dtype=spec.datatype.numpy).reshape(array.shape)


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_body_with_raw_bytes_reads_as_specified(case: dict[str, Any]) -> None:
    signature = ModelSignature.from_json(VECTORS["signatures"][case["signature"]])
    text = json.dumps(case["json"]).encode() if "json" in case else b""
    body, header = text + bytes.fromhex(case["raw"]), str(case.get("header", len(text))).encode()
    if "error" in case:
        with pytest.raises(errors.GatewayError) as caught:
            read_infer(body, signature, header=header, model="m")
        assert type(caught.value).__name__ == case["error"]
        assert case["says"] in caught.value.detail
        return
    asked = read_infer(body, signature, header=header, model="m")
    assert asked.form.is_binary == ("json" not in case)
    for tensor, spec in zip(asked.request.inputs, signature.inputs, strict=True):
        assert (tensor.name, tensor.datatype) == (spec.name, spec.datatype)
        assert tensor.array.flags.aligned
        np.testing.assert_array_equal(tensor.array, an_array(case["inputs"][spec.name], spec), strict=True)
