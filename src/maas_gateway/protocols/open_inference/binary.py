"""Tensors as raw bytes behind the JSON of a body: the binary tensor data extension.

Layout: the JSON, then each binary tensor's bytes in the order in which the JSON names them; little-endian, row-major,
no padding. BOOL is one byte, 0 or 1. An element of BYTES is a u32 length and as many bytes. The header
`Inference-Header-Content-Length` says how long the JSON is; where it says 0 the whole body is the one input's data.

Rules: a tensor has the bytes that its shape and datatype ask for; all bytes are claimed by a tensor; values are exact,
so NaN and infinities pass. An array is a view of the body where its bytes are aligned, else a copy.

Source: NVIDIA Triton, "Binary Tensor Data Extension". Deviations: a length that is no number is refused (Triton reads
it as 0), and so is a byte of BOOL that is neither 0 nor 1.
"""

import math
import sys
from typing import Final

import numpy as np

from maas_gateway.errors import MalformedBody, SignatureMismatch
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.signature import FREE, ModelSignature, TensorSpec
from maas_gateway.tensors.tensor import Tensor

LENGTH_HEADER: Final = b"inference-header-content-length"

_LENGTH_BYTES: Final = 4
_MAX_LENGTH_DIGITS: Final = 18

if sys.byteorder != "little":  # pragma: no cover  the wire is little-endian, and arrays are views of it
    raise ImportError("this gateway runs on little-endian machines only")


def header_length(header: bytes, body_bytes: int) -> int:
    """Return how many bytes of a body are its JSON.

    Args:
        header: the value of `Inference-Header-Content-Length`.
        body_bytes: length of the body, inflated.

    Raises:
        MalformedBody: it is no number, or no number of bytes that the body has.
    """
    text = header.strip()
    if not text.removeprefix(b"-").isdigit() or len(text) > _MAX_LENGTH_DIGITS:
        raise MalformedBody("the header Inference-Header-Content-Length must be a number of bytes")
    length = int(text)
    if not 0 <= length <= body_bytes:
        raise MalformedBody(f"inference header size should be in range (0, {body_bytes}), got: {length}")
    return length


class Section:
    """What follows the JSON of a body; tensors take their bytes from it in turn."""

    def __init__(self, body: bytes | memoryview, start: int, model: str) -> None:
        self._view = memoryview(body)[start:]
        self._at = 0
        self._model = model

    def take(self, spec: TensorSpec, shape: tuple[int, ...], n_bytes: object) -> np.ndarray:
        """Return an input's array.

        Args:
            spec: of the input.
            shape: what the request says it is.
            n_bytes: its `binary_data_size`.

        Raises:
            MalformedBody: `n_bytes` is no number, or there are fewer bytes.
            SignatureMismatch: the bytes are not what shape and datatype ask for.
        """
        if type(n_bytes) is not int or n_bytes < 0:
            raise MalformedBody(f"input '{spec.name}': 'binary_data_size' must be a number of bytes")
        n_left = len(self._view) - self._at
        if n_bytes > n_left:
            raise MalformedBody(
                f"unexpected size for input '{spec.name}', expecting {n_bytes - n_left} additional bytes "
                f"for model '{self._model}'"
            )
        raw = self._view[self._at : self._at + n_bytes]
        self._at += n_bytes
        return array_of(raw, spec, shape)

    def finish(self) -> None:
        """Refuse bytes that no input has taken.

        Raises:
            MalformedBody: there are some.
        """
        if self._at != len(self._view):
            raise MalformedBody(f"unexpected additional input data for model '{self._model}'")


def array_of(raw: memoryview, spec: TensorSpec, shape: tuple[int, ...]) -> np.ndarray:
    """Return raw bytes as an array of that shape, aligned and read-only.

    Raises:
        SignatureMismatch: they are not what shape and datatype ask for.
    """
    n_elements = math.prod(shape)
    if spec.datatype is Datatype.BYTES:
        return shaped(_strings_of(raw, spec, n_elements), spec.name, shape)
    dtype = spec.datatype.numpy
    if len(raw) != n_elements * dtype.itemsize:
        raise SignatureMismatch(
            f"input '{spec.name}': shape {list(shape)} of {spec.datatype} takes {n_elements * dtype.itemsize} bytes "
            f"and {len(raw)} were sent"
        )
    if spec.datatype is Datatype.BOOL:
        return shaped(_bools_of(raw, spec), spec.name, shape)
    array = np.frombuffer(raw, dtype) if n_elements else np.empty(0, dtype)
    return shaped(array if array.flags.aligned else array.copy(), spec.name, shape)


def shaped(array: np.ndarray, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return an input's flat array in a shape of as many elements.

    Raises:
        SignatureMismatch: there are none, and dimensions whose product is none that NumPy can hold.
    """
    try:
        return array.reshape(shape)
    except ValueError as error:
        raise SignatureMismatch(f"input '{name}': shape {list(shape)} is too large") from error


def bytes_of(tensor: Tensor) -> bytes | memoryview:
    """Return an array's bytes as they go over the wire; a view where that is possible."""
    if tensor.datatype is Datatype.BYTES:
        return b"".join(_framed(element) for element in tensor.array.reshape(-1).tolist())
    array = np.ascontiguousarray(tensor.array)
    return array.reshape(-1).view(np.uint8).data if array.size else b""


def raw_request(body: bytes | memoryview, signature: ModelSignature, model: str) -> Tensor:
    """Return the only input of a model from a body that is nothing but its bytes: one row of it.

    Raises:
        MalformedBody: the model has several inputs, or a shape that the bytes do not tell.
        SignatureMismatch: the bytes are not one row of it.
    """
    if len(signature.inputs) != 1:
        raise MalformedBody(
            f"Raw request must only have 1 input (found {len(signature.inputs)}) to be deduced, in model '{model}'"
        )
    spec = signature.inputs[0]
    shape = [1 if signature.has_batch and not at else n for at, n in enumerate(spec.shape)]
    if spec.datatype is Datatype.BYTES:
        if math.prod(shape) != 1:
            raise MalformedBody(f"For BYTE datatype raw input '{spec.name}', the model must have input shape [1]")
        element = np.empty(1, np.object_)
        element[0] = bytes(body)
        return Tensor(spec.name, spec.datatype, element.reshape(shape))
    n_free = shape.count(FREE)
    if n_free > 1:
        raise MalformedBody(
            f"The shape of the raw input '{spec.name}' can not be deduced because there are more than one "
            "variable-sized dimension"
        )
    if n_free:
        row_bytes = math.prod(n for n in shape if n != FREE) * spec.datatype.numpy.itemsize
        shape[shape.index(FREE)] = len(body) // row_bytes if row_bytes else 0
    return Tensor(spec.name, spec.datatype, array_of(memoryview(body), spec, tuple(shape)))


def _bools_of(raw: memoryview, spec: TensorSpec) -> np.ndarray:
    values = np.frombuffer(raw, np.uint8) if raw else np.empty(0, np.uint8)
    if (values > 1).any():
        raise SignatureMismatch(f"input '{spec.name}': a byte of BOOL is neither 0 nor 1")
    return values.view(np.bool_)


def _strings_of(raw: memoryview, spec: TensorSpec, n_elements: int) -> np.ndarray:
    """Return the elements as bytes, as many as the shape has."""
    elements: list[bytes] = []
    at, end = 0, len(raw)
    while at < end:
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(raw[at:start], "little")
        if start > end or at > end:
            raise SignatureMismatch(f"input '{spec.name}': element {len(elements)} of BYTES is cut short")
        elements.append(bytes(raw[start:at]))
    if len(elements) != n_elements:
        raise SignatureMismatch(
            f"input '{spec.name}': its shape has {n_elements} elements and the data {len(elements)}"
        )
    array = np.empty(n_elements, np.object_)
    array[:] = elements
    return array


def _framed(element: object) -> bytes:
    raw = element.encode() if isinstance(element, str) else bytes(element)  # type: ignore[call-overload]  # a runtime's bytes
    return len(raw).to_bytes(_LENGTH_BYTES, "little") + raw
