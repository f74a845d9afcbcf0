"""Protocol Buffers by hand, where that saves copies: the fields of a message in turn, as views of it.

Rules: a field is of one of the wire types 0, 1, 2 and 5; a length reaches no further than the message around it; a
varint has at most ten bytes; a text is UTF-8 and of at most 64 KiB. How many fields a message may have is its reader's
to say, because each costs time and memory whatever its size.

Source: protobuf.dev, "Encoding".
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from maas_gateway.errors import MalformedBody

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
FIXED_BYTES: Final = {FIXED64: 8, FIXED32: 4}
MAX_FIELDS: Final = 4_096
"""Of one message, where its reader says nothing else."""
MAX_TEXT_BYTES: Final = 1 << 16

_MORE: Final = 0x80
_MAX_VARINT_BYTES: Final = 10
_BLOCK_BYTES: Final = 1 << 20

Value = int | memoryview | bytes
"""A varint; the content of a field that has a length; or the four or eight bytes of a fixed number."""


def fields(message: memoryview, what: str, *, max_fields: int = MAX_FIELDS) -> Iterator[tuple[int, int, Value]]:
    """Yield number, wire type and value of each field of a message.

    Args:
        message: all of it.
        what: its name, for sentences.
        max_fields: how many it may have.

    Raises:
        MalformedBody: it breaks a rule of this module.
    """
    at, end, n_left = 0, len(message), max_fields
    while at < end:
        n_left -= 1
        if n_left < 0:
            raise MalformedBody(f"{what} has more than {max_fields} fields")
        tag, at = _varint(message, at, what)
        kind = tag & 7
        if kind == LENGTH:
            length, at = _varint(message, at, what)
        elif kind == VARINT:
            value, at = _varint(message, at, what)
            yield tag >> 3, kind, value
            continue
        elif kind in FIXED_BYTES:
            length = FIXED_BYTES[kind]
        else:
            raise MalformedBody(f"{what} has a field of the wire type {kind}, which no field has")
        start, at = at, at + length
        if at > end:
            raise MalformedBody(f"{what} is cut short")
        content = message[start:at]
        yield tag >> 3, kind, content if kind == LENGTH else bytes(content)


def text(value: Value, what: str) -> str:
    """Return a field of text.

    Raises:
        MalformedBody: it is no text, or too long a one.
    """
    content = octets(value, what)
    if len(content) > MAX_TEXT_BYTES:
        raise MalformedBody(f"{what} has more than {MAX_TEXT_BYTES} bytes")
    try:
        return str(content, "utf-8")
    except UnicodeDecodeError as cause:
        raise MalformedBody(f"{what} is not UTF-8") from cause


def octets(value: Value, what: str) -> memoryview:
    """Return a field of bytes, or a message within a message.

    Raises:
        MalformedBody: it is a number.
    """
    if not isinstance(value, memoryview):
        raise MalformedBody(f"{what} is a number")
    return value


def signed(value: int) -> int:
    """Return the number that a varint of an int32, int64 or enumeration means."""
    return value - (1 << 64) if value >> 63 else value


def packed(content: memoryview, what: str) -> Iterator[np.ndarray]:
    """Yield packed varints as arrays of uint64, piece by piece, so that a long row takes no more memory than it must.

    Raises:
        MalformedBody: a varint is cut short or too long.
    """
    whole = np.frombuffer(content, np.uint8) if len(content) else np.empty(0, np.uint8)
    at = 0
    while at < whole.size:
        block = whole[at : at + _BLOCK_BYTES]
        ends = np.flatnonzero(block < _MORE)
        if not ends.size or (at + block.size == whole.size and ends[-1] != block.size - 1):
            raise MalformedBody(f"{what}: a number is cut short")
        block = block[: ends[-1] + 1]
        at += block.size
        yield block.astype(np.uint64) if ends.size == block.size else _joined(block, ends, what)


def numbers(content: memoryview, what: str) -> list[int]:
    """Return packed varints where there are few.

    Raises:
        MalformedBody: a varint is cut short or too long.
    """
    found, at = [], 0
    while at < len(content):
        value, at = _varint(content, at, what)
        found.append(value)
    return found


def field(number: int, content: bytes | memoryview) -> bytes:
    """Return a field of bytes, text or a message, as it is written."""
    return b"".join((head(number, len(content)), content))


def head(number: int, n_bytes: int) -> bytes:
    """Return what stands before the content of a field."""
    tag = number << 3 | LENGTH
    return bytes((tag, n_bytes)) if n_bytes < _MORE else bytes((tag,)) + varint(n_bytes)


def varint(value: int) -> bytes:
    """Return a number from 0 to 2**64 - 1 as it is written."""
    written = bytearray()
    while value >= _MORE:
        written.append(value & 0x7F | _MORE)
        value >>= 7
    written.append(value)
    return bytes(written)


def _varint(message: memoryview, at: int, what: str) -> tuple[int, int]:
    try:
        byte = message[at]
        if byte < _MORE:
            return byte, at + 1
        value, shift = byte & 0x7F, 7
        for position in range(at + 1, at + _MAX_VARINT_BYTES):
            byte = message[position]
            value |= (byte & 0x7F) << shift
            if byte < _MORE:
                return value & 0xFFFF_FFFF_FFFF_FFFF, position + 1
            shift += 7
    except IndexError:
        raise MalformedBody(f"{what} is cut short") from None
    raise MalformedBody(f"{what} has a number of more than 64 bits")


def _joined(block: np.ndarray, ends: np.ndarray, what: str) -> np.ndarray:
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > _MAX_VARINT_BYTES:
        raise MalformedBody(f"{what}: a number has more than 64 bits")
    shifts = (np.arange(block.size) - np.repeat(starts, lengths)) * 7
    parts = (block & 0x7F).astype(np.uint64) << shifts.astype(np.uint64)
    joined: np.ndarray = np.bitwise_or.reduceat(parts, starts)
    return joined
