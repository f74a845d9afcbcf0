"""The frames that parent and child exchange over the child's stdin and stdout.

Byte layout of a frame (version 1, which the parent's `HEADER` frame names):

- offset 0, 1 byte: kind, one of `FrameKind`;
- offset 1, 4 bytes: n, the length of what follows, unsigned, big-endian, at most `MAX_FRAME_BYTES`;
- offset 5, n bytes: JSON in UTF-8 (an object) or raw bytes, as the kind says.

The parent sends HEADER, DATA*, END; the child sends STARTED, PROGRESS*, then either FAILED or
ANSWER, DATA*, END. To a child that stays (`resident`) the parent then sends a call, CALL, DATA*, END, which it
answers by ANSWER, DATA*, END or by FAILED, after which it ends; then the next.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Final

VERSION: Final = 1
MAX_FRAME_BYTES: Final = 1 << 20
PREFIX: Final = struct.Struct(">BI")


class FrameKind(IntEnum):
    """What a frame carries."""

    HEADER = 1  # JSON: version, module, arguments, limits, paths
    DATA = 2  # raw bytes of the request or of the answer
    END = 3  # nothing
    STARTED = 4  # JSON: which limits are in force
    PROGRESS = 5  # JSON: whatever the child's module tells
    ANSWER = 6  # JSON: the answer's header
    FAILED = 7  # JSON: {"kind", "detail"}
    CALL = 8  # JSON: a call's header


class FrameRejected(ValueError):
    """The bytes are no frame of this protocol."""


def pack(kind: FrameKind, payload: bytes | bytearray | memoryview = b"") -> bytes:
    """Return one frame.

    Raises:
        FrameRejected: the payload is larger than a frame may be.
    """
    if len(payload) > MAX_FRAME_BYTES:
        raise FrameRejected(f"a frame of {len(payload)} bytes is larger than {MAX_FRAME_BYTES}")
    return PREFIX.pack(kind, len(payload)) + payload


def pack_json(kind: FrameKind, value: Mapping[str, object]) -> bytes:
    """Return one frame that carries a JSON object."""
    return pack(kind, json.dumps(value, separators=(",", ":"), allow_nan=False).encode())


def unpack_prefix(prefix: bytes) -> tuple[FrameKind, int]:
    """Return a frame's kind and the length of its payload.

    Args:
        prefix: the frame's first 5 bytes.

    Raises:
        FrameRejected: the kind is unknown or the length too large.
    """
    number, length = PREFIX.unpack(prefix)
    if length > MAX_FRAME_BYTES:
        raise FrameRejected("a frame is larger than the protocol allows")
    try:
        return FrameKind(number), length
    except ValueError:
        raise FrameRejected("a frame is of a kind that does not exist") from None


def unpack_json(payload: bytes) -> dict[str, object]:
    """Return the JSON object that a frame carries.

    Raises:
        FrameRejected: it is not JSON, or no object.
    """
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        raise FrameRejected("a frame does not hold JSON") from None
    if not isinstance(value, dict):
        raise FrameRejected("a frame does not hold a JSON object")
    return value


def split(payload: bytes | bytearray | memoryview) -> Iterator[memoryview]:
    """Yield the payload in pieces that fit into a frame."""
    view = memoryview(payload)
    for start in range(0, len(view), MAX_FRAME_BYTES):
        yield view[start : start + MAX_FRAME_BYTES]
