"""NumPy arrays to the body of an infer request and back, as raw bytes.

Rules: arrays go as they are, little-endian and row-major; text goes as UTF-8, `bytes` as they are; the datatype is the
array's, never guessed from the model, so that a wrong one is the gateway's sentence and not a silent cast.

Source: Open Inference Protocol, "Inference Request"; NVIDIA Triton, "Binary Tensor Data Extension".
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

LENGTH_HEADER: Final = "Inference-Header-Content-Length"
_BYTES: Final = "BYTES"
_LENGTH_BYTES: Final = 4
_DATATYPES: Final[Mapping[str, str]] = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
}
_DTYPES: Final = {datatype: dtype for dtype, datatype in _DATATYPES.items()}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered.

    Attributes:
        model: its name.
        version: which version answered.
        outputs: arrays by name; read-only views of what arrived, `bytes` objects for text.
        request_id: by what the gateway's operator finds the request.
    """

    model: str
    version: str
    outputs: Mapping[str, np.ndarray]
    request_id: str


def write_request(
    inputs: Mapping[str, np.ndarray | Iterable[Any]],
    *,
    outputs: Iterable[str] | None = None,
    classes: int = 0,
    parameters: Mapping[str, str | float | bool] | None = None,
) -> tuple[dict[str, str], bytes]:
    """Return headers and body of an infer request that is answered in raw bytes.

    Args:
        inputs: arrays by name, or what NumPy makes arrays of.
        outputs: names of the outputs wanted; None for all.
        classes: of each output wanted, its best classes in the place of its values; 0 for the values.
        parameters: the protocol's, such as `priority` or `timeout` in microseconds.

    Raises:
        TypeError: an array is of a type that the protocol does not have.
        ValueError: classes are wanted, and not of which outputs.
    """
    if classes and outputs is None:
        raise ValueError("say of which outputs: outputs=['…']")
    described, contents = [], []
    for name, value in inputs.items():
        array = _array_of(value)
        datatype, raw = _written(name, array)
        contents.append(raw)
        described.append(
            {
                "name": name,
                "shape": list(array.shape),
                "datatype": datatype,
                "parameters": {"binary_data_size": len(raw)},
            }
        )
    document: dict[str, object] = {
        "inputs": described,
        "parameters": {**(parameters or {}), "binary_data_output": True},
    }
    if outputs is not None:
        wanted = {"parameters": {"classification": classes}} if classes else {}
        document["outputs"] = [{"name": name, **wanted} for name in outputs]
    head = json.dumps(document, separators=(",", ":")).encode()
    headers = {LENGTH_HEADER: str(len(head)), "Content-Type": "application/octet-stream"}
    return headers, b"".join((head, *contents))


def read_answer(headers: Mapping[str, str], body: bytes) -> Answer:
    """Return what an infer request was answered.

    Args:
        headers: the answer's, found whatever their case.
        body: the answer's.

    Raises:
        ValueError: the body is no answer of this protocol.
    """
    length = headers.get(LENGTH_HEADER.lower())
    n_json = len(body) if length is None else int(length)
    document, view, at = json.loads(body[:n_json]), memoryview(body), n_json
    outputs: dict[str, np.ndarray] = {}
    for output in document["outputs"]:
        datatype, shape = output["datatype"], output["shape"]
        if "data" in output:
            flat = np.array(
                [item.encode() if isinstance(item, str) else item for item in output["data"]], _dtype(datatype)
            )
        else:
            end = at + int(output["parameters"]["binary_data_size"])
            flat, at = _read(view[at:end], datatype), end
        outputs[output["name"]] = flat.reshape(shape)
    if at != len(body):
        raise ValueError("the answer has bytes that belong to no output")
    return Answer(document["model_name"], document["model_version"], outputs, document["id"])


def _array_of(value: np.ndarray | Iterable[Any]) -> np.ndarray:
    return np.asarray(value)


def _written(name: str, array: np.ndarray) -> tuple[str, bytes]:
    if array.dtype.kind in "SUO":
        return _BYTES, b"".join(_framed(name, element) for element in array.reshape(-1).tolist())
    datatype = _DATATYPES.get(array.dtype.name)
    if datatype is None:
        raise TypeError(f"input {name!r}: the protocol has no datatype for an array of {array.dtype}")
    return datatype, array.astype(array.dtype.newbyteorder("<"), order="C", copy=False).tobytes()


def _framed(name: str, element: object) -> bytes:
    if isinstance(element, str):
        element = element.encode()
    if not isinstance(element, bytes):
        raise TypeError(f"input {name!r}: an element is neither text nor bytes")
    return len(element).to_bytes(_LENGTH_BYTES, "little") + element


def _dtype(datatype: str) -> str:
    if datatype == _BYTES:
        return "object"
    if datatype not in _DTYPES:
        raise ValueError(f"the answer has an unknown datatype: {datatype!r}")
    return _DTYPES[datatype]


def _read(raw: memoryview, datatype: str) -> np.ndarray:
    if datatype != _BYTES:
        return (
            np.frombuffer(raw, np.dtype(_dtype(datatype)).newbyteorder("<")) if raw else np.empty(0, _dtype(datatype))
        )
    elements, at = [], 0
    while at < len(raw):
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(raw[at:start], "little")
        elements.append(bytes(raw[start:at]))
    array = np.empty(len(elements), np.object_)
    array[:] = elements
    return array
