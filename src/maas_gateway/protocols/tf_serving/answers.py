"""Output tensors as JSON text, in row format (`predictions`) or column format (`outputs`).

Rules: float32 is printed so that it reads back as the same float32, whole numbers with `.0`; NaN,
Infinity and -Infinity are bare tokens; BYTES of an output whose name ends in `_bytes` are
`{"b64": …}`, of any other they are text, which must be UTF-8. One output stands without its name,
several as objects by name. FP16 and UINT16, which TensorFlow Serving does not print, are numbers here.

Source: TensorFlow Serving RESTful API, "Predict API, response format", "JSON conformance".
"""

import base64
import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import orjson

from maas_gateway.errors import InvalidRequest, SignatureMismatch
from maas_gateway.tensors.arrays import B64_KEY
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.tensor import Tensor


def rows_as_json(outputs: Sequence[Tensor]) -> bytes:
    """Return the list of rows: values of the only output, or objects by name.

    Raises:
        SignatureMismatch: an output has no rows, or not as many as the others.
        InvalidRequest: BYTES that must be text are not UTF-8.
    """
    for tensor in outputs:
        if not tensor.array.ndim:
            raise SignatureMismatch(f"Tensor name: {tensor.name} has no shape information")
        rows, wanted = len(tensor.array), len(outputs[0].array)
        if rows != wanted:
            raise SignatureMismatch(
                f"Tensor name: {tensor.name} has inconsistent batch size: {rows} expecting: {wanted}"
            )
    if len(outputs) == 1:
        return _text_of(outputs[0])
    columns = [_row_texts(tensor) for tensor in outputs]
    return b"[" + b",".join(b"{" + b",".join(row) + b"}" for row in zip(*columns, strict=True)) + b"]"


def columns_as_json(outputs: Sequence[Tensor]) -> bytes:
    """Return the value of the only output, or an object of values by name.

    Raises:
        InvalidRequest: BYTES that must be text are not UTF-8.
    """
    if len(outputs) == 1:
        return _text_of(outputs[0])
    return b"{" + b",".join(orjson.dumps(tensor.name) + b":" + _text_of(tensor) for tensor in outputs) + b"}"


def _row_texts(tensor: Tensor) -> list[bytes]:
    """Return `"name":value` for each row."""
    key = orjson.dumps(tensor.name) + b":"
    if tensor.datatype is Datatype.BYTES:
        return [key + orjson.dumps(value) for value in _strings(tensor)]
    return [key + numbers_as_json(row) for row in tensor.array]


def _text_of(tensor: Tensor) -> bytes:
    if tensor.datatype is Datatype.BYTES:
        return orjson.dumps(_strings(tensor))
    return numbers_as_json(tensor.array)


def numbers_as_json(array: np.ndarray) -> bytes:
    """Return an array of numbers or booleans, of any rank, as JSON text; a NumPy scalar too."""
    # The encoder takes no array of rank 0, and not every scalar: ONNX Runtime's 64-bit integers are C's `long long`.
    text = orjson.dumps(array if array.ndim else array.reshape(1), option=orjson.OPT_SERIALIZE_NUMPY)
    text = text if array.ndim else text[1:-1]
    return text if _NULL not in text else _with_tokens(text, array)


def _with_tokens(text: bytes, array: np.ndarray) -> bytes:
    """Put the tokens, in order, where the encoder has written null for what is not finite."""
    values = np.ravel(array)
    tokens = [_token(value) for value in values[~np.isfinite(values)].tolist()]
    pieces = text.split(_NULL)
    return pieces[0] + b"".join(token + piece for token, piece in zip(tokens, pieces[1:], strict=True))


def _token(value: float) -> bytes:
    if math.isnan(value):
        return b"NaN"
    return b"Infinity" if value > 0 else b"-Infinity"


def _strings(tensor: Tensor) -> list[object]:
    """Return the nested lists of what is written for each element of BYTES."""
    flat = np.empty(tensor.array.size, dtype=np.object_)
    is_binary = tensor.name.endswith("_bytes")
    for position, element in enumerate(tensor.array.ravel().tolist()):
        content = element.encode("utf-8", "surrogatepass") if isinstance(element, str) else bytes(element)
        if is_binary:
            flat[position] = {B64_KEY: base64.b64encode(content).decode()}
            continue
        try:
            flat[position] = content.decode()
        except UnicodeDecodeError as error:
            raise InvalidRequest(
                f"output '{tensor.name}' has bytes that are not UTF-8: "
                "only an output whose name ends in _bytes can carry them in JSON"
            ) from error
    nested: list[object] = flat.reshape(tensor.array.shape).tolist()
    return nested


_NULL: Final = b"null"
