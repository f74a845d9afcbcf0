"""One tensor of an ONNX file: whether its bytes are what it declares, and its values where they are few.

Rules:
    * Its bytes lie in the file: no `external_data`, no `data_location` but the default, no segment.
    * Element types are those of `onnx_schema`: no complex numbers, nothing narrower than 4 bits.
    * Dimensions are not negative, at most 16, with a bounded product. Exactly one field holds elements (none if there
      are no elements), it is one for that type, and it holds as many as the dimensions ask for.

Source: onnx 1.23.2, onnx/onnx.proto, `TensorProto`.
"""

import math
import struct
from collections.abc import Iterator
from typing import Final

from maas_gateway.scanning.onnx_schema import DATA_FIELDS, INT32, INT64, ITEM_BITS, STRING
from maas_gateway.scanning.protobuf import Message, Run

Fault = tuple[str, str, str]
"""Rule, place, sentence."""

_FLOAT: Final = 1
_DOUBLE: Final = 11
_BOOL: Final = 9
_MAX_RANK: Final = 16
_MAX_FEW: Final = 64
_RAW_LETTERS: Final = {INT32: "i", INT64: "q", _FLOAT: "f", _DOUBLE: "d", _BOOL: "?"}
_FIELDS: Final = (*DATA_FIELDS, "raw_data")


def tensor_faults(tensor: Message, *, max_elements: int) -> Iterator[Fault]:
    """Yield what is wrong with a tensor.

    Raises:
        Refusal: it cannot be read.
    """
    if tensor.has("external_data") or tensor.integer("data_location"):
        yield "external-data", tensor.at, "its bytes lie in another file; save the model with its weights inside."
    if tensor.has("segment"):
        yield "segment", tensor.at, "a tensor in several parts is not accepted."
    data_type, dims = tensor.integer("data_type"), tensor.integers("dims")
    if data_type != STRING and data_type not in ITEM_BITS:
        yield "tensor-type", tensor.at, f"element type {data_type} is not accepted."
        return
    if dims is None or len(dims) > _MAX_RANK or min((*dims, 0)) < 0 or math.prod(dims) > max_elements:
        yield "tensor-shape", tensor.at, "it has too many dimensions or elements, or a negative dimension."
        return
    yield from _data_faults(tensor, data_type, math.prod(dims))


def few_values(tensor: Message) -> tuple[int | float, ...] | None:
    """Return a small tensor's numbers, None if there are many or it holds something else; it passed `tensor_faults`."""
    data_type, n_elements = tensor.integer("data_type"), math.prod(tensor.integers("dims") or ())
    if n_elements > _MAX_FEW or data_type not in _RAW_LETTERS:
        return None
    letter = _RAW_LETTERS[data_type]
    if tensor.has("raw_data"):
        n_bytes = n_elements * struct.calcsize(f"<{letter}")
        return struct.unpack(f"<{n_elements}{letter}", tensor.raw("raw_data", max_bytes=n_bytes))
    for field in ("int32_data", "int64_data"):
        if tensor.has(field):
            return tensor.integers(field)
    for field, width in (("float_data", 4), ("double_data", 8)):
        if tensor.has(field):
            return _floats(tensor, field, width)
    return ()


def _floats(tensor: Message, field: str, width: int) -> tuple[float, ...] | None:
    """Return floats, whether packed or one by one; a number of one record was read as its bits."""
    letter = "f" if width == struct.calcsize("f") else "d"
    values: list[float] = []
    for value in tensor.values(field):
        if isinstance(value, int):
            values += struct.unpack(f"<{letter}", value.to_bytes(width, "little"))
        elif isinstance(value, Run | str):
            return None
    if tensor.spans(field):
        raw = tensor.raw(field, max_bytes=_MAX_FEW * width)
        values += struct.unpack(f"<{len(raw) // width}{letter}", raw)
    return tuple(values)


def _data_faults(tensor: Message, data_type: int, n_elements: int) -> Iterator[Fault]:
    fields = [field for field in _FIELDS if tensor.has(field)]
    if len(fields) > 1:
        yield "tensor-fields", tensor.at, f"its elements stand in several fields: {', '.join(fields)}."
        return
    if not fields:
        if n_elements:
            yield "tensor-size", tensor.at, f"it declares {n_elements} elements and holds none."
        return
    (field,) = fields
    if field == "raw_data":
        wanted, found = (n_elements * ITEM_BITS.get(data_type, 0) + 7) // 8, tensor.spans(field)[0].n_bytes
    else:
        wanted, found = n_elements, tensor.n_values(field)
    if data_type == STRING if field == "raw_data" else data_type not in DATA_FIELDS[field]:
        yield "tensor-fields", tensor.at, f"{field} does not hold elements of type {data_type}."
    elif wanted != found:
        unit = "bytes" if field == "raw_data" else "elements"
        yield "tensor-size", tensor.at, f"shape and type ask for {wanted} {unit}, and {field} holds {found}."
