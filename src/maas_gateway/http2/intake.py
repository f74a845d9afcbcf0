"""Bytes as they come, frames as they are whole: the beginning, sizes, and headers put together.

Rules: a peer begins with the preface and its SETTINGS; no frame is longer than every peer may send; nothing comes
between the parts of a header block, and the block is bounded before it is inflated.

Source: RFC 9113, sections 3.4, 4.1, 4.2 and 4.3.
"""

from collections.abc import Iterator
from typing import Final

from maas_gateway.http2.frames import (
    HEAD_BYTES,
    LEAST_FRAME_BYTES,
    PREFACE,
    PRIORITY_BYTES,
    Code,
    ConnectionFault,
    Flag,
    Kind,
    read_head,
    unpadded,
)

_MOST_CONTINUATIONS: Final = 16

Frame = tuple[int, int, int, bytes]
"""Type, flags, stream and payload."""


class Intake:
    """What one peer sends.

    Args:
        max_header_bytes: of a header block.

    Attributes:
        has_begun: whether the peer has sent its SETTINGS.
    """

    def __init__(self, max_header_bytes: int) -> None:
        self._max_header_bytes = max_header_bytes
        self._rest = b""
        self._has_preface = False
        self._block: tuple[int, int, list[bytes]] | None = None  # stream, flags of its HEADERS, what came of its block
        self.has_begun = False

    def frames(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that are whole now; HEADERS hold their whole block, without padding and priority.

        Raises:
            ConnectionFault: what came cannot be read any further.
        """
        data = self._rest + data if self._rest else data
        self._rest, at = b"", 0
        if not self._has_preface:
            if not data.startswith(PREFACE):
                if not PREFACE.startswith(data):
                    raise ConnectionFault(Code.PROTOCOL_ERROR, "this port speaks gRPC, over HTTP/2")
                self._rest = data
                return
            self._has_preface, at = True, len(PREFACE)
        end = len(data)
        while end - at >= HEAD_BYTES:
            n_bytes, kind, flags, stream_id = read_head(data, at)
            if n_bytes > LEAST_FRAME_BYTES:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"a frame of more than {LEAST_FRAME_BYTES} bytes")
            start = at + HEAD_BYTES
            if end - start < n_bytes:
                break
            at = start + n_bytes
            found = self._checked(kind, flags, stream_id, data[start:at])
            if found is not None:
                yield found
        self._rest = data[at:]

    def _checked(self, kind: int, flags: int, stream_id: int, payload: bytes) -> Frame | None:
        """Return a frame, None for a part of a header block."""
        if self._block is not None and (kind != Kind.CONTINUATION or stream_id != self._block[0]):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a frame within headers")
        if not self.has_begun:
            if kind != Kind.SETTINGS:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "the first frame is SETTINGS")
            self.has_begun = not flags & Flag.ACK
        if kind == Kind.HEADERS:
            return self._begun_block(flags, stream_id, payload)
        if kind == Kind.CONTINUATION:
            return self._continued_block(flags, payload)
        return kind, flags, stream_id, payload

    def _begun_block(self, flags: int, stream_id: int, payload: bytes) -> Frame | None:
        content = unpadded(payload, flags)
        if flags & Flag.PRIORITY:
            if len(content) < PRIORITY_BYTES:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "HEADERS of a wrong size")
            content = content[PRIORITY_BYTES:]
        if flags & Flag.END_HEADERS:
            return Kind.HEADERS, flags, stream_id, content
        self._block = (stream_id, flags, [content])
        return None

    def _continued_block(self, flags: int, payload: bytes) -> Frame | None:
        if self._block is None:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "CONTINUATION of nothing")
        stream_id, first_flags, pieces = self._block
        pieces.append(payload)
        if len(pieces) > _MOST_CONTINUATIONS or sum(map(len, pieces)) > self._max_header_bytes:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many headers")
        if not flags & Flag.END_HEADERS:
            return None
        self._block = None
        return Kind.HEADERS, first_flags, stream_id, b"".join(pieces)
