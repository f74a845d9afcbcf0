"""The values in a GraphDef: attributes, shapes, constants, and the functions that attributes name.

Rules:
    * Of the forms that a value can have it has at most one, and a map holds a key once: parsers take the last.
    * A constant is of numbers, booleans or texts, its dimensions are known, and its bytes are as many as they ask for.
      Where fewer values are given the last one counts for the rest: 17 bytes can stand for 200 MB, so what all
      constants of a file take beyond their bytes in the file is bounded.
    * No resource handles, no variants, no placeholders for attributes.

Source: tensorflow 2.21 core/framework/{attr_value,tensor,tensor_shape,types}.proto; tensor.cc, `Tensor::FromProto`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from maas_gateway.scanning.protobuf import Message
from maas_gateway.scanning.scanner import Refusal, clip

STRING: Final = 7
_INTEGER_FORMATS: Final = {3: "int_val", 9: "int64_val"}
_STRING_BYTES: Final = 24  # of one text in memory, beside its characters
_ITEM_BYTES: Final = {
    **dict.fromkeys((4, 6, 10, 11, 12), 1),
    **dict.fromkeys((5, 14, 15, 16, 17, 19), 2),
    **dict.fromkeys((1, 3, 13, 22), 4),
    **dict.fromkeys((2, 8, 9, 23), 8),
    18: 16,
    STRING: _STRING_BYTES,
}
"""Bytes of an element by DataType: numbers, booleans and texts."""

_VALUE_FIELDS: Final = (
    "half_val",
    "float_val",
    "double_val",
    "int_val",
    "string_val",
    "scomplex_val",
    "int64_val",
    "bool_val",
    "dcomplex_val",
    "uint32_val",
    "uint64_val",
)
_MAX_RANK: Final = 32
_MAX_ELEMENTS: Final = 1 << 40
_MAX_NUMBERS: Final = 64
_FREE: Final = -1
_LENGTH: Final = 8  # of a fixed64 in bytes


@dataclass(frozen=True, slots=True)
class Constant:
    """What is known of one constant.

    Attributes:
        dtype: the number of its DataType.
        sizes: its dimensions.
        numbers: its values, if they are few integers.
    """

    dtype: int
    sizes: tuple[int, ...]
    numbers: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Attribute:
    """What is known of one attribute's value.

    Attributes:
        calls: functions that it names, in any depth.
        constant: the tensor, if it is one.
        shape: the dimensions, -1 for a free one, if it is a shape of known rank.
        number: the integer, truth value or type, if it is one.
        text: the first bytes of a text, if it is one.
    """

    calls: tuple[str, ...] = ()
    constant: Constant | None = None
    shape: tuple[int, ...] | None = None
    number: int | None = None
    text: bytes | None = None


def entries(message: Message, field: str) -> Iterator[tuple[str, Message]]:
    """Yield the entries of a map whose values are messages.

    Raises:
        Refusal: a key occurs twice.
    """
    seen: set[str] = set()
    for entry in message.messages(field):
        key = entry.text("key")
        if key in seen:
            raise Refusal("duplicate-key", f"{entry.at}: {clip(key)}", "the map holds this key twice.")
        seen.add(key)
        value = entry.message("value")
        if value is None:
            raise Refusal("no-value", f"{entry.at}: {clip(key)}", "the map holds this key without a value.")
        yield key, value


def only_one_of(message: Message, at: str) -> None:
    """Refuse a value that has several forms at once."""
    if len({name for name, _ in message.items()}) > 1:
        raise Refusal("two-values", at, "the value has several forms at once.")


class ValueReader:
    """Reads the values of one file, and keeps count of what its constants ask for.

    Args:
        max_unbacked_bytes: what constants may take in memory beyond their bytes in the file, all together.
    """

    def __init__(self, *, max_unbacked_bytes: int) -> None:
        self._max_unbacked_bytes = max_unbacked_bytes
        self._unbacked_bytes = 0

    def attribute(self, value: Message, at: str) -> Attribute:
        """Return what is known of an AttrValue.

        Raises:
            Refusal: it breaks a rule of this module.
        """
        only_one_of(value, at)
        if value.has("placeholder"):
            raise Refusal("placeholder-attribute", at, "an attribute without a value is not accepted.")
        tensor, shape = value.message("tensor"), value.message("shape")
        if tensor is not None:
            return Attribute(constant=self.constant(tensor, at))
        if shape is not None:
            return Attribute(shape=read_shape(shape, at))
        if value.has("i", "b", "type"):
            return Attribute(number=value.integer("i") or value.integer("b") or value.integer("type"))
        if value.has("s"):
            return Attribute(text=value.raw("s", max_bytes=1 << 20))
        calls = tuple(self._calls(value, at))
        return Attribute(calls=calls)

    def constant(self, tensor: Message, at: str) -> Constant:
        """Return what is known of a TensorProto.

        Raises:
            Refusal: it breaks a rule of this module.
        """
        dtype = tensor.integer("dtype")
        if dtype not in _ITEM_BYTES or tensor.has("resource_handle_val", "variant_val", "float8_val"):
            raise Refusal("constant-type", at, f"a constant of DataType {dtype} is not accepted.")
        shape = tensor.message("tensor_shape")
        sizes = () if shape is None else read_shape(shape, at)
        if sizes is None or _FREE in sizes:
            raise Refusal("constant-shape", at, "a constant must have a known shape.")
        n_elements = math.prod(sizes)
        self._charge(n_elements * _ITEM_BYTES[dtype] - self._stored_bytes(tensor, n_elements, at), at)
        return Constant(dtype, sizes, self._numbers(tensor, dtype, n_elements))

    def _charge(self, n_bytes: int, at: str) -> None:
        self._unbacked_bytes += max(n_bytes, 0)
        if self._unbacked_bytes > self._max_unbacked_bytes:
            raise Refusal(
                "constant-bomb",
                at,
                f"constants up to this one take {self._unbacked_bytes} bytes more in memory than in the file; "
                f"{self._max_unbacked_bytes} are allowed.",
            )

    def _stored_bytes(self, tensor: Message, n_elements: int, at: str) -> int:
        """Return how many bytes of the constant the file holds, however they are written."""
        fields = [name for name in _VALUE_FIELDS if tensor.has(name)]
        content = tensor.spans("tensor_content")
        n_content = content[0].n_bytes if content else 0
        if len(fields) + bool(n_content) > 1:
            raise Refusal("two-values", at, "the constant's values are given in two ways.")
        if n_content:
            dtype = tensor.integer("dtype")
            if dtype != STRING and n_content != n_elements * _ITEM_BYTES[dtype]:
                raise Refusal("constant-size", at, "the constant's bytes are not as many as its shape asks for.")
            return n_content
        if not fields:
            return 0
        values = tensor.spans(fields[0])
        n_values = tensor.n_values(fields[0]) // (2 if "complex" in fields[0] else 1)
        if n_values > n_elements:
            raise Refusal("constant-size", at, "the constant has more values than its shape asks for.")
        if fields[0] == "string_val":  # the last text may be any of the last row's, and is of no more than all of it
            self._charge((n_elements - n_values) * values[-1].n_bytes, at)
        return sum(span.n_bytes for span in values) + _LENGTH * (tensor.count(fields[0]) - len(values))

    def _numbers(self, tensor: Message, dtype: int, n_elements: int) -> tuple[int, ...] | None:
        if dtype not in _INTEGER_FORMATS or n_elements > _MAX_NUMBERS:
            return None
        width = _ITEM_BYTES[dtype]
        raw = tensor.raw("tensor_content", max_bytes=_MAX_NUMBERS * width)
        if raw:
            return tuple(
                int.from_bytes(raw[start : start + width], "little", signed=True) for start in range(0, len(raw), width)
            )
        given = tensor.integers(_INTEGER_FORMATS[dtype]) or (0,)
        return (*given, *given[-1:] * (n_elements - len(given)))[:n_elements]

    def _calls(self, value: Message, at: str) -> Iterator[str]:
        """Yield the functions that a value names, after looking at everything else in it."""
        function, row = value.message("func"), value.message("list")
        if function is not None:
            yield from self._called(function, at)
        if row is None:
            return
        for shape in row.messages("shape"):
            read_shape(shape, at)
        for tensor in row.messages("tensor"):
            self.constant(tensor, at)
        for function in row.messages("func"):
            yield from self._called(function, at)

    def _called(self, function: Message, at: str) -> Iterator[str]:
        yield function.text("name")
        for name, value in entries(function, "attr"):
            yield from self.attribute(value, f"{at}, attribute {clip(name)}").calls


def read_shape(shape: Message, at: str) -> tuple[int, ...] | None:
    """Return the dimensions of a TensorShapeProto, None if not even their number is known.

    Raises:
        Refusal: they are too many, too large or negative.
    """
    sizes = tuple(dimension.integer("size") for dimension in shape.messages("dim"))
    if shape.integer("unknown_rank"):
        return None
    if len(sizes) > _MAX_RANK or any(size < _FREE for size in sizes):
        raise Refusal("shape", at, "a shape has too many dimensions, or one that is negative.")
    if math.prod(max(size, 1) for size in sizes) > _MAX_ELEMENTS:
        raise Refusal("shape", at, f"a shape of more than {_MAX_ELEMENTS} elements is not accepted.")
    return sizes
