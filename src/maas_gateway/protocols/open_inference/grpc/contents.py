"""The typed values of an input, `InferTensorContents`, as an array.

Rules: they stand in the one field that is of the tensor's datatype, row-major; integers are in its range; there are as
many as the shape has elements. FP16 has no field. Numbers may be packed or not, as Protocol Buffers has it; those that
are not are few.

Source: Open Inference Protocol, "Tensor Data" of the gRPC form. Deviation from NVIDIA Triton, which wraps integers
beyond INT8, INT16, UINT8 and UINT16: they are refused.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np

from maas_gateway.errors import InvalidRequest, MalformedBody, SignatureMismatch
from maas_gateway.protocols.open_inference.binary import shaped
from maas_gateway.protocols.open_inference.grpc import wire
from maas_gateway.protocols.open_inference.grpc.wire import LENGTH, VARINT, Value, fields, octets, packed
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.signature import TensorSpec

_NAMES: Final = (
    "",
    "bool_contents",
    "int_contents",
    "int64_contents",
    "uint_contents",
    "uint64_contents",
    "fp32_contents",
    "fp64_contents",
    "bytes_contents",
)
"""By field number."""
_NUMBERS: Final[Mapping[Datatype, int]] = MappingProxyType(
    {
        Datatype.BOOL: 1,
        Datatype.INT8: 2,
        Datatype.INT16: 2,
        Datatype.INT32: 2,
        Datatype.INT64: 3,
        Datatype.UINT8: 4,
        Datatype.UINT16: 4,
        Datatype.UINT32: 4,
        Datatype.UINT64: 5,
        Datatype.FP32: 6,
        Datatype.FP64: 7,
        Datatype.BYTES: 8,
    }
)
_MAX_LOOSE: Final = 4_096
_MAX_FIELDS: Final = 1 << 31


def read_contents(contents: memoryview, spec: TensorSpec, shape: tuple[int, ...]) -> np.ndarray:
    """Return an input's values.

    Args:
        contents: the message that holds them, empty where there is none.
        spec: of the input.
        shape: what the request says it is.

    Raises:
        MalformedBody: the message cannot be read.
        SignatureMismatch: the values are not of the datatype, or not as many as the shape has.
        InvalidRequest: the datatype has no field.
    """
    if spec.datatype not in _NUMBERS:
        raise InvalidRequest(
            f"receiving {spec.datatype} data in contents is not supported. Please use raw_input_contents for input {spec.name}"
        )
    array = _strings(contents, spec) if spec.datatype is Datatype.BYTES else _numbers(contents, spec)
    if array.size != math.prod(shape):
        raise SignatureMismatch(
            f"input '{spec.name}': shape {list(shape)} has {math.prod(shape)} elements and 'contents' has {array.size}"
        )
    return shaped(array, spec.name, shape)


def _strings(contents: memoryview, spec: TensorSpec) -> np.ndarray:
    what = f"input '{spec.name}': contents"
    elements = []
    for number, _, value in fields(contents, what, max_fields=_MAX_FIELDS):
        _check_number(number, spec)
        elements.append(bytes(octets(value, what)))
    array = np.empty(len(elements), np.object_)
    array[:] = elements
    return array


def _numbers(contents: memoryview, spec: TensorSpec) -> np.ndarray:
    what = f"input '{spec.name}': contents"
    pieces: list[np.ndarray] = []
    n_elements = 0
    for number, kind, value in fields(contents, what, max_fields=_MAX_LOOSE):
        _check_number(number, spec)
        for piece in _piece(kind, value, spec, what):
            pieces.append(piece)
            n_elements += piece.size
    if len(pieces) == 1:
        return pieces[0] if pieces[0].flags.aligned else pieces[0].copy()
    return np.concatenate(pieces) if pieces else np.empty(0, spec.datatype.numpy)


def _piece(kind: int, value: Value, spec: TensorSpec, what: str) -> list[np.ndarray]:
    dtype = spec.datatype.numpy
    if spec.datatype.is_float:
        content = value if wire.FIXED_BYTES.get(kind) == dtype.itemsize else octets(value, what)
        assert not isinstance(content, int)
        if len(content) % dtype.itemsize:
            raise MalformedBody(f"{what} has a number that is cut short")
        return [np.frombuffer(content, dtype)] if len(content) else []
    if kind == VARINT:
        assert isinstance(value, int)
        return [_narrowed(np.array([value], np.uint64), spec, 0)]
    if kind != LENGTH:
        raise MalformedBody(f"{what} has a number of another wire type")
    narrowed: list[np.ndarray] = []
    n_before = 0
    for piece in packed(octets(value, what), what):
        narrowed.append(_narrowed(piece, spec, n_before))
        n_before += piece.size
    return narrowed


def _narrowed(wide: np.ndarray, spec: TensorSpec, n_before: int) -> np.ndarray:
    """Return varints in the datatype's own width."""
    if spec.datatype is Datatype.BOOL:
        return wide.astype(np.bool_)
    dtype = spec.datatype.numpy
    values = wide.view(np.int64) if dtype.kind == "i" else wide
    narrow = values.astype(dtype)
    if dtype.itemsize < values.itemsize and (narrow != values).any():
        at = int(np.argmax(narrow != values))
        raise SignatureMismatch(
            f"input '{spec.name}': {values[at]} is out of range for type: {spec.datatype} (at contents[{n_before + at}])"
        )
    return narrow


def _check_number(number: int, spec: TensorSpec) -> None:
    own = _NUMBERS[spec.datatype]
    if number != own:
        named = _NAMES[number] if 0 < number < len(_NAMES) else f"field {number}"
        raise SignatureMismatch(
            f"input '{spec.name}': values of {spec.datatype} belong into '{_NAMES[own]}' and there is '{named}'"
        )
