"""A peer of HTTP/2 that writes each frame by hand, for what no client library would send."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from hpack import Decoder, Encoder

from maas_gateway.http2.frames import HEAD_BYTES, PREFACE, Code, Flag, Kind, frame
from maas_gateway.http2.patience import Bounds
from maas_gateway.http2.port import Port, listening
from maas_gateway.http2.stream import Stream

BOUNDS = Bounds(max_streams=10, max_header_bytes=16_384, idle_s=30, ping_every_s=60, least_ping_s=0)
REQUEST = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/service/Method"),
    (":authority", "here"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]
ANSWERED_WITHIN_S = 10.0

Serve = Callable[[Stream], Coroutine[Any, Any, None]]


@dataclass
class Frame:
    """A frame that was received.

    Attributes:
        kind: its type.
        flags: its flags.
        stream_id: its stream.
        payload: its bytes.
    """

    kind: int
    flags: int
    stream_id: int
    payload: bytes

    @property
    def code(self) -> Code:
        """Why a stream or a connection ends."""
        at = 4 if self.kind == Kind.GOAWAY else 0
        return Code(struct.unpack_from(">L", self.payload, at)[0])


@dataclass
class Peer:
    """The client's side of a connection.

    Attributes:
        reader: what comes.
        writer: what goes.
        frames: all that came.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    frames: list[Frame] = field(default_factory=list)
    encoder: Encoder = field(default_factory=Encoder)
    decoder: Decoder = field(default_factory=Decoder)

    def send(self, *frames: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(b"".join(frames))

    def greet(self) -> None:
        """Begin as a client does."""
        self.send(PREFACE, frame(Kind.SETTINGS, 0, 0))

    def headers(
        self, stream_id: int, headers: Iterable[tuple[str, str]] = REQUEST, *, flags: int = Flag.END_HEADERS
    ) -> bytes:
        """Return a HEADERS frame."""
        return frame(Kind.HEADERS, flags, stream_id, self.encoder.encode(list(headers)))

    async def next(self, *kinds: Kind) -> Frame:
        """Return the next frame of these kinds."""
        async with asyncio.timeout(ANSWERED_WITHIN_S):
            while True:
                head = await self.reader.readexactly(HEAD_BYTES)
                payload = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
                found = Frame(head[3], head[4], int.from_bytes(head[5:], "big"), payload)
                self.frames.append(found)
                if found.kind in kinds:
                    return found

    async def ended(self) -> Frame:
        """Return the GOAWAY frame, behind which the connection is closed."""
        found = await self.next(Kind.GOAWAY)
        async with asyncio.timeout(ANSWERED_WITHIN_S):
            assert await self.reader.read() == b""
        return found

    async def answer(self, stream_id: int) -> tuple[list[tuple[str, str]], bytes, list[tuple[str, str]]]:
        """Return headers, body and trailers of one stream."""
        lists: list[list[tuple[str, str]]] = []
        body = b""
        while True:
            found = await self.next(Kind.HEADERS, Kind.DATA)
            if found.kind == Kind.HEADERS:
                lists.append([(str(name), str(value)) for name, value in self.decoder.decode(found.payload)])
            if found.stream_id != stream_id:
                continue
            if found.kind == Kind.DATA:
                body += found.payload
            if found.flags & Flag.END_STREAM:
                return lists[0], body, lists[-1] if len(lists) > 1 else []

    async def is_alive(self) -> bool:
        """Whether the connection still answers a ping."""
        self.send(frame(Kind.PING, 0, 0, b"12345678"))
        while True:
            found = await self.next(Kind.PING, Kind.GOAWAY)
            if found.kind == Kind.PING and found.flags & Flag.ACK:
                return found.payload == b"12345678"
            if found.kind == Kind.GOAWAY:
                return False


async def echo(stream: Stream) -> None:
    """Answer a request with its own body, once that is whole."""
    body = b""
    while (piece := await stream.receive(1 << 20)) is not None:
        body += piece
    stream.send_headers(b"\x88")
    await stream.send(body)
    stream.send_headers(b"\x00\x04last\x03one", is_last=True)


@asynccontextmanager
async def http2(
    serve: Serve = echo, bounds: Bounds = BOUNDS, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Port, Callable[[], Coroutine[Any, Any, Peer]]]]:
    """Yield a port and what opens a connection to it, already greeted, with a buffer of so many bytes."""
    peers: list[Peer] = []

    async def opened(*, greets: bool = True, receive_bytes: int | None = None) -> Peer:
        raw = socket.socket()
        raw.setblocking(False)
        if receive_bytes is not None:  # before it connects: the window that it offers follows from it
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        try:
            await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port.number))
        except OSError:
            raw.close()
            raise
        peer = Peer(*await asyncio.open_connection(sock=raw))
        peers.append(peer)
        if greets:
            peer.greet()
        return peer

    async with listening(serve, bounds, host="127.0.0.1", port=0, tls=tls) as port:
        try:
            yield port, opened
        finally:
            for peer in peers:
                peer.writer.close()
                with suppress(ConnectionError):
                    await peer.writer.wait_closed()
