"""One call over HTTP/2: its metadata, its messages as they come and go, its status.

Rules: a message is its length, whether it is compressed, and its bytes; one that is longer than is taken is refused by
its length, before its bytes have come; one that is compressed is inflated at most to that bound. A status with a sentence goes
into trailers, its letters beyond ASCII in percent signs.

Source: gRPC, "gRPC over HTTP2"; "Compression".
"""

import re
import zlib
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

from maas_gateway.errors import MalformedBody, PayloadTooLarge, Unsupported
from maas_gateway.http2.frames import Code
from maas_gateway.http2.headers import STATUS_200, Headers, block_of
from maas_gateway.http2.stream import Stream
from maas_gateway.protocols.open_inference.grpc.statuses import Status

CONTENT_TYPE: Final = b"application/grpc"

_PREFIX_BYTES: Final = 5
_TIMEOUT: Final = re.compile(rb"(\d{1,8})([HMSmun])")
_UNITS_S: Final = {b"H": 3_600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_HEAD: Final = STATUS_200 + block_of([(b"content-type", CONTENT_TYPE)])
_PRINTABLE: Final = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


_OK: Final = block_of([(b"grpc-status", b"0")])

Metadata = Iterable[tuple[str, str]]


class CallExchange:
    """A call as its method sees it.

    Args:
        stream: where it came.
        max_message_bytes: of a message, inflated.

    Attributes:
        metadata: what the caller sent, without what is the protocol's own.
    """

    __slots__ = ("_buffer", "_has_begun", "_max_message_bytes", "_stream", "metadata")

    def __init__(self, stream: Stream, max_message_bytes: int) -> None:
        self._stream = stream
        self._max_message_bytes = max_message_bytes
        self._buffer = b""
        self._has_begun = False
        self.metadata: Headers = [header for header in stream.headers if header[0][:1] != b":"]

    def _header(self, name: bytes) -> bytes | None:
        for known, value in self._stream.headers:
            if known == name:
                return value
        return None

    @property
    def path(self) -> str:
        """The method that is called, `/<service>/<method>`."""
        return (self._header(b":path") or b"").decode("latin-1")

    def left_s(self) -> float | None:
        """Return the seconds that the caller waits; None where it does not say.

        Raises:
            MalformedBody: what it says is no duration.
        """
        said = self._header(b"grpc-timeout")
        if said is None:
            return None
        matched = _TIMEOUT.fullmatch(said)
        if matched is None:
            raise MalformedBody("the header grpc-timeout must be a number of at most 8 digits and a unit")
        return int(matched[1]) * _UNITS_S[matched[2]]

    async def read(self) -> bytes | None:
        """Return the next message; None at the end of them.

        Raises:
            PayloadTooLarge: it is longer than is taken.
            MalformedBody: it is cut short, or not compressed as the call says.
            Unsupported: it is compressed in a way that is not known here.
        """
        prefix = await self._take(_PREFIX_BYTES)
        if prefix is None:
            return None
        n_bytes = int.from_bytes(prefix[1:], "big")
        if n_bytes > self._max_message_bytes:
            raise PayloadTooLarge(f"the message is larger than the {self._max_message_bytes} bytes that are accepted")
        content = await self._take(n_bytes)
        if content is None:
            raise MalformedBody("the message is cut short")
        return content if not prefix[0] else self._inflated(content, prefix[0])

    def read_now(self) -> bytes | None:
        """Return the next message if all of it is there already, and as it is; else None, and `read` returns it."""
        self._buffer += self._stream.taken()
        buffer = self._buffer
        end = _PREFIX_BYTES + int.from_bytes(buffer[1:_PREFIX_BYTES], "big")
        if len(buffer) < max(end, _PREFIX_BYTES) or buffer[0] or end - _PREFIX_BYTES > self._max_message_bytes:
            return None
        self._buffer = buffer[end:]
        return buffer[_PREFIX_BYTES:end]

    async def _take(self, n_bytes: int) -> bytes | None:
        """Return so many bytes, None where the stream ended before the first of them."""
        if len(self._buffer) < n_bytes:
            pieces, n_there = ([self._buffer] if self._buffer else []), len(self._buffer)
            while n_there < n_bytes:
                piece = await self._stream.receive(n_bytes - n_there)
                if piece is None:
                    if n_there:
                        raise MalformedBody("the message is cut short")
                    return None
                pieces.append(piece)
                n_there += len(piece)
            self._buffer = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        taken, self._buffer = self._buffer[:n_bytes], self._buffer[n_bytes:]
        return taken

    def _inflated(self, content: bytes, flag: int) -> bytes:
        encoding = self._header(b"grpc-encoding") or b"identity"
        if flag != 1 or encoding == b"identity":
            raise MalformedBody("a message is marked as compressed, and the call does not say how")
        if encoding not in {b"gzip", b"deflate"}:
            raise Unsupported("grpc-encoding: gzip, deflate or identity")
        inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # finds out whether gzip or zlib
        try:
            inflated = inflater.decompress(content, self._max_message_bytes + 1)
        except zlib.error as cause:
            raise MalformedBody("the message is not compressed as the call says") from cause
        if len(inflated) > self._max_message_bytes:
            raise PayloadTooLarge(f"the message is larger than the {self._max_message_bytes} bytes that are accepted")
        if inflater.unused_data or not inflater.eof:
            raise MalformedBody("the message is not compressed as the call says")
        return inflated

    async def answer(self, message: bytes, metadata: Metadata) -> None:
        """Send the only message of an answer, and that all went well.

        Raises:
            PeerGone: the caller does not take it.
        """
        content = b"\0" + len(message).to_bytes(4, "big") + message
        last = _OK + _block(metadata)
        if not self._stream.answer(_HEAD, content, last):
            await self._send(content)
            self._stream.send_headers(last, is_last=True)

    async def write(self, message: bytes) -> None:
        """Send one message of several.

        Raises:
            PeerGone: the caller does not take it.
        """
        await self._send(b"\0" + len(message).to_bytes(4, "big") + message)

    async def _send(self, content: bytes) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._stream.send_headers(_HEAD)
        await self._stream.send(content)

    def end(self, status: Status, sentence: str, metadata: Metadata) -> None:
        """Send how the call ended."""
        last = block_of([(b"grpc-status", b"%d" % status)])
        if sentence:
            last += block_of([(b"grpc-message", quote(sentence, safe=_PRINTABLE).encode("ascii"))])
        last += _block(metadata)
        self._stream.send_headers(last if self._has_begun else _HEAD + last, is_last=True)

    def refuse_http(self, status: int) -> None:
        """Answer what is no call of gRPC, as HTTP does."""
        self._stream.send_headers(block_of([(b":status", b"%d" % status)]), is_last=True)

    def drop(self) -> None:
        """End the call without a word."""
        self._stream.reset(Code.CANCEL)

    @property
    def fault(self) -> int | None:
        """The HTTP status that refuses what is no call of gRPC; None where it is one."""
        if self._header(b":method") != b"POST":
            return 405
        content_type = self._header(b"content-type") or b""
        is_grpc = content_type == CONTENT_TYPE or content_type.startswith((CONTENT_TYPE + b"+", CONTENT_TYPE + b";"))
        return None if is_grpc else 415


def _block(metadata: Metadata) -> bytes:
    return block_of((name.encode("ascii"), value.encode("latin-1", "replace")) for name, value in metadata)
