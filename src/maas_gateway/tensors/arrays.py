"""A JSON value as an array: rectangular, of one datatype, nothing coerced.

Rules: a list is a dimension and anything else an element; lists of one level have one length and
are not mixed with elements; a float takes any JSON number, an integer only a JSON integer in its
range (1.0 is none), BOOL only true and false, BYTES only strings; null is never taken. A number
beyond FP32 becomes an infinity there, as a C cast does. The work is linear in the size of the value,
without recursion: each level is looked at as a whole, and only a refusal searches for its place.
"""

import base64
import binascii
import math
from array import array as packed
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from types import MappingProxyType
from typing import Final, TypeAlias, cast

import numpy as np

from maas_gateway.errors import SignatureMismatch
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.values import json_type, shown

MAX_RANK: Final = 32
"""More dimensions than any model has, fewer than NumPy's 64."""

B64_KEY: Final = "b64"


class Strings(Enum):
    """How a door writes an element of BYTES."""

    UTF8 = "a string, taken as UTF-8"
    BASE64 = "a string in base64"
    UTF8_OR_B64_OBJECT = 'a string, taken as UTF-8, or {"b64": a string in base64}'


@dataclass(frozen=True, slots=True)
class Dialect:
    """What differs between doors in reading arrays.

    Attributes:
        type_names: how the door calls each datatype in its error texts.
        strings: how it writes elements of BYTES.
    """

    type_names: Mapping[Datatype, str]
    strings: Strings


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a value is no array, and where.

    Attributes:
        indices: position of the offending value, outermost first; empty for the value itself.
        reason: one clause for the client.
        is_ragged: whether the lists' lengths or levels disagree; else an element is wrong.
    """

    indices: tuple[int, ...]
    reason: str
    is_ragged: bool = False

    @property
    def path(self) -> str:
        """The indices as they are written behind a name, `[2][0]`."""
        return "".join(f"[{index}]" for index in self.indices)


Describe: TypeAlias = Callable[[Fault], str]
"""Makes the door's sentence from a fault: it knows the field's name."""


def array_from_json(value: object, datatype: Datatype, dialect: Dialect, describe: Describe) -> np.ndarray:
    """Turn a parsed JSON value into an array.

    Args:
        value: what a JSON parser returned; a value that is no list gives an array of rank 0.
        datatype: the element type wanted; never FP16, which JSON does not carry.
        dialect: the door's names and its form of strings.
        describe: makes the sentence of a refusal.

    Returns:
        A writable, C-contiguous array of dtype `datatype.numpy` that owns its memory; BYTES are
        `bytes` objects.

    Raises:
        SignatureMismatch: the value is no such array; the sentence is `describe`'s.
    """
    if datatype is Datatype.BYTES:
        return _array_of_strings(value, dialect, describe)
    taken, code, dtype = _NUMERIC[datatype]
    shape, elements, fault = _flatten(value, taken)
    if fault is None:
        try:
            return np.ndarray(shape, dtype, packed(code, cast("list[float]", elements)))
        except OverflowError:
            fault = _first_overflow(elements, shape, code, dialect.type_names[datatype])
    elif not fault.reason:
        fault = _first_wrong(elements, shape, taken, dialect.type_names[datatype])
    raise SignatureMismatch(describe(fault))


def shape_of(value: object) -> tuple[int, ...] | None:
    """Return the shape that a JSON value has as an array of any elements, or None where it is ragged."""
    shape, _, fault = _flatten(value, _SCALARS)
    return None if fault is not None and fault.is_ragged else shape


def bytes_from_base64(text: str) -> bytes | None:
    """Decode the standard alphabet, white space ignored and padding optional; None where it is something else."""
    compact = "".join(text.split())
    try:
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _flatten(value: object, taken: frozenset[type]) -> tuple[tuple[int, ...], list[object], Fault | None]:
    """Take the lists apart level by level.

    Returns:
        The shape so far; the values of the innermost level; and a fault, its reason empty where an
        element of that level is of a type that is not taken.
    """
    shape: tuple[int, ...] = ()
    level: list[object] = [value]
    while True:
        if len(level) == 1 and len(shape) < MAX_RANK and isinstance(only := level[0], list):
            shape += (len(only),)
            level = only
            continue
        kinds = set(map(type, level))
        if kinds == _LISTS:
            lists = cast("list[list[object]]", level)
            sizes = set(map(len, lists))
            if len(sizes) > 1:
                return shape, level, _ragged(lists, shape)
            if len(shape) == MAX_RANK:
                return shape, level, Fault((), f"nested more than {MAX_RANK} lists deep", is_ragged=True)
            shape += (sizes.pop(),)
            level = list(chain.from_iterable(lists))
        elif kinds <= taken:
            return shape, level, None
        elif kinds - taken == _LISTS:
            return shape, level, _mixed(level, shape)
        else:
            return shape, level, Fault((), "")


def _indices(position: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the place in nested lists of the value at a position of their innermost level."""
    indices = []
    for size in reversed(shape):
        position, index = divmod(position, size)
        indices.append(index)
    return tuple(reversed(indices))


def _ragged(lists: list[list[object]], shape: tuple[int, ...]) -> Fault:
    wanted = len(lists[0])
    position = next(i for i, inner in enumerate(lists) if len(inner) != wanted)
    reason = (
        f"Encountered list at unexpected size: {len(lists[position])} at level: {len(shape)} expected size: {wanted}"
    )
    return Fault(_indices(position, shape), reason, is_ragged=True)


def _mixed(level: list[object], shape: tuple[int, ...]) -> Fault:
    is_list = type(level[0]) is list
    position = next(i for i, value in enumerate(level) if (type(value) is list) != is_list)
    got, wanted = ("value", "list") if is_list else ("list", "value")
    reason = f"Encountered {got} at level: {len(shape)} where a {wanted} was expected"
    return Fault(_indices(position, shape), reason, is_ragged=True)


def _first_wrong(elements: list[object], shape: tuple[int, ...], taken: frozenset[type], name: str) -> Fault:
    acceptable = taken | _LISTS
    position = next(i for i, value in enumerate(elements) if type(value) not in acceptable)
    value = elements[position]
    reason = f"JSON Value: {shown(value)} Type: {json_type(value)} is not of expected type: {name}"
    return Fault(_indices(position, shape), reason)


def _first_overflow(elements: list[object], shape: tuple[int, ...], code: str, name: str) -> Fault:
    for position, value in enumerate(elements):
        try:
            packed(code, [cast("float", value)])
        except OverflowError:
            return Fault(_indices(position, shape), f"JSON Value: {shown(value)} is out of range for type: {name}")
    raise AssertionError("the whole overflowed and no part does")


def _array_of_strings(value: object, dialect: Dialect, describe: Describe) -> np.ndarray:
    """Return an object array of `bytes`."""
    taken = _STRINGS_OR_OBJECTS if dialect.strings is Strings.UTF8_OR_B64_OBJECT else _STRINGS
    shape, elements, fault = _flatten(value, taken)
    if fault is not None:
        name = dialect.type_names[Datatype.BYTES]
        raise SignatureMismatch(describe(fault if fault.reason else _first_wrong(elements, shape, taken, name)))
    flat = np.empty(math.prod(shape), dtype=np.object_)
    for position, element in enumerate(elements):
        content = _element_bytes(element, dialect.strings)
        if isinstance(content, str):
            raise SignatureMismatch(describe(Fault(_indices(position, shape), content)))
        flat[position] = content
    return flat.reshape(shape)


def _element_bytes(value: object, strings: Strings) -> bytes | str:
    """Return an element's bytes, or as a string the reason why it has none."""
    if isinstance(value, dict):
        text = value.get(B64_KEY)
        if len(value) != 1 or not isinstance(text, str):
            return f"JSON Value: {shown(value)} not formatted correctly for base64 data"
    else:
        text = cast("str", value)
        if strings is not Strings.BASE64:
            return _utf8(text)
    content = bytes_from_base64(text)
    return "Unable to base64 decode" if content is None else content


def _utf8(text: str) -> bytes | str:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return f"JSON Value: {shown(text)} has a surrogate without its pair"


_LISTS: Final = frozenset({list})
_SCALARS: Final[frozenset[type]] = frozenset({bool, int, float, str, dict, type(None)})
_STRINGS: Final[frozenset[type]] = frozenset({str})
_STRINGS_OR_OBJECTS: Final[frozenset[type]] = frozenset({str, dict})
_NUMBERS: Final[frozenset[type]] = frozenset({int, float})
_INTEGERS: Final[frozenset[type]] = frozenset({int})
_NUMERIC: Final[Mapping[Datatype, tuple[frozenset[type], str, np.dtype]]] = MappingProxyType(
    {
        datatype: (taken, code, datatype.numpy)
        for datatype, taken, code in (
            (Datatype.BOOL, frozenset({bool}), "b"),
            (Datatype.UINT8, _INTEGERS, "B"),
            (Datatype.UINT16, _INTEGERS, "H"),
            (Datatype.UINT32, _INTEGERS, "I"),
            (Datatype.UINT64, _INTEGERS, "Q"),
            (Datatype.INT8, _INTEGERS, "b"),
            (Datatype.INT16, _INTEGERS, "h"),
            (Datatype.INT32, _INTEGERS, "i"),
            (Datatype.INT64, _INTEGERS, "q"),
            (Datatype.FP32, _NUMBERS, "f"),
            (Datatype.FP64, _NUMBERS, "d"),
        )
    }
)
"""For each datatype but BYTES: the Python types a JSON parser gives, the code of `array`, the dtype."""
