"""Frames: their heads, what their numbers mean, and whole ones to be sent.

Source: RFC 9113, sections 4.1 (format), 6 (definitions), 7 (error codes), 6.5.2 (settings).
"""

import struct
from collections.abc import Mapping
from enum import IntEnum, IntFlag
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES: Final = 9
LEAST_FRAME_BYTES: Final = 16_384
"""What every peer takes, and all that we do (`SETTINGS_MAX_FRAME_SIZE`'s first value)."""
MOST_FRAME_BYTES: Final = (1 << 24) - 1
FIRST_WINDOW: Final = 65_535
MAX_WINDOW: Final = (1 << 31) - 1
MAX_STREAM_ID: Final = (1 << 31) - 1
PING_BYTES: Final = 8
PRIORITY_BYTES: Final = 5

_HEAD: Final = struct.Struct(">HBBBL")
_SETTING: Final = struct.Struct(">HL")
_NUMBER: Final = struct.Struct(">L")
_TWO_NUMBERS: Final = struct.Struct(">LL")


class Kind(IntEnum):
    """Types of frames."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Flag(IntFlag):
    """Flags of frames; ACK is END_STREAM's bit, in frames that have no stream."""

    END_STREAM = 0x1
    ACK = 0x1
    END_HEADERS = 0x4
    PADDED = 0x8
    PRIORITY = 0x20


class Code(IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class Setting(IntEnum):
    """What a peer says of itself."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class ConnectionFault(Exception):
    """The peer broke a rule after which the connection cannot go on.

    Attributes:
        code: for the GOAWAY frame.
        sentence: why, for its debug data.
    """

    def __init__(self, code: Code, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


class StreamFault(Exception):
    """The peer broke a rule of one stream; the others go on.

    Attributes:
        code: for the RST_STREAM frame.
    """

    def __init__(self, code: Code, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


def frame(kind: int, flags: int, stream_id: int, payload: bytes | memoryview = b"") -> bytes:
    """Return a whole frame."""
    return head(kind, flags, stream_id, len(payload)) + payload


def head(kind: int, flags: int, stream_id: int, n_bytes: int) -> bytes:
    """Return the head of a frame whose payload has so many bytes."""
    return _HEAD.pack(n_bytes >> 8, n_bytes & 0xFF, kind, flags, stream_id)


def read_head(data: bytes, at: int) -> tuple[int, int, int, int]:
    """Return size of the payload, type, flags and stream of the frame that begins there."""
    high, low, kind, flags, stream_id = _HEAD.unpack_from(data, at)
    return high << 8 | low, kind, flags, stream_id & MAX_STREAM_ID


def settings(values: Mapping[Setting, int]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(Kind.SETTINGS, 0, 0, b"".join(_SETTING.pack(name, value) for name, value in values.items()))


def settings_of(payload: bytes) -> list[tuple[int, int]]:
    """Return names and values of a SETTINGS frame, in its order.

    Raises:
        ConnectionFault: its size is wrong.
    """
    if len(payload) % _SETTING.size:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, "SETTINGS of a wrong size")
    return list(_SETTING.iter_unpack(payload))


def reset(stream_id: int, code: Code) -> bytes:
    """Return a RST_STREAM frame."""
    return frame(Kind.RST_STREAM, 0, stream_id, _NUMBER.pack(code))


def window_update(stream_id: int, n_bytes: int) -> bytes:
    """Return a WINDOW_UPDATE frame."""
    return frame(Kind.WINDOW_UPDATE, 0, stream_id, _NUMBER.pack(n_bytes))


def go_away(last_stream_id: int, code: Code, sentence: str = "") -> bytes:
    """Return a GOAWAY frame."""
    return frame(Kind.GOAWAY, 0, 0, _TWO_NUMBERS.pack(last_stream_id, code) + sentence.encode("ascii", "replace"))


def number_of(payload: bytes, name: str) -> int:
    """Return the one number of a frame.

    Raises:
        ConnectionFault: it has another size.
    """
    if len(payload) != _NUMBER.size:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"{name} of a wrong size")
    found: int = _NUMBER.unpack(payload)[0]
    return found


def unpadded(payload: bytes, flags: int) -> bytes:
    """Return a payload without its padding.

    Raises:
        ConnectionFault: there is more padding than payload.
    """
    if not flags & Flag.PADDED:
        return payload
    n_padding = payload[0] if payload else 0
    if n_padding >= len(payload):
        raise ConnectionFault(Code.PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - n_padding]
