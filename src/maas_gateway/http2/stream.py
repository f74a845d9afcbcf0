"""One stream: a request as it comes in, its answer as it goes out.

Rules: a peer may send as much as one window before anybody has asked for it, and after that what was asked for; an
answer that fits the peer's windows leaves in one write, another waits for them.

Source: RFC 9113, sections 5.1, 5.2 and 8.1.
"""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from maas_gateway.http2.frames import FIRST_WINDOW, Code, Flag, Kind, frame, head, window_update
from maas_gateway.http2.headers import Headers

if TYPE_CHECKING:
    from maas_gateway.http2.connection import Connection

_HALF: Final = FIRST_WINDOW // 2


class PeerGone(Exception):
    """The peer took the stream back, left, or takes nothing any more."""


class Stream:
    """What a request is answered through, in the task that serves it.

    Attributes:
        stream_id: its number on the connection.
        headers: of the request, pseudo-headers first; shared, not to be changed.
        send_window: bytes that the peer takes on this stream; may be negative.
        window_left: bytes that the peer may still send.
        is_ended: whether the request is whole.
        is_answered: whether the answer is.
        is_reset: whether the peer took it back.
    """

    __slots__ = (
        "_connection",
        "_pieces",
        "_reader",
        "headers",
        "is_answered",
        "is_ended",
        "is_reset",
        "send_window",
        "stream_id",
        "task",
        "window_left",
    )

    def __init__(self, connection: "Connection", stream_id: int, headers: Headers, send_window: int) -> None:
        self._connection = connection
        self._pieces: deque[bytes] = deque()
        self._reader: asyncio.Future[None] | None = None
        self.stream_id = stream_id
        self.headers = headers
        self.send_window = send_window
        self.window_left = FIRST_WINDOW
        self.is_ended = self.is_answered = self.is_reset = False
        self.task: asyncio.Task[None] | None = None

    def feed(self, content: bytes) -> None:
        """Take a piece of the request."""
        self._pieces.append(content)
        self._wake()

    def end(self) -> None:
        """Take note that the request is whole."""
        self.is_ended = True
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def taken(self) -> bytes:
        """Return what is there of the request and was not returned yet."""
        if not self._pieces:
            return b""
        found = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        return found

    async def receive(self, wanted: int) -> bytes | None:
        """Return the next piece of the request, None at its end.

        Args:
            wanted: bytes that the peer is to be able to send without asking again.
        """
        while not self._pieces:
            if self.is_ended:
                return None
            self._grant(wanted)
            self._reader = self._connection.loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        return self._pieces.popleft()

    def _grant(self, wanted: int) -> None:
        least = max(wanted, FIRST_WINDOW)
        if self.window_left < min(wanted, least) or self.window_left < _HALF:
            self._connection.write(window_update(self.stream_id, least - self.window_left))
            self.window_left = least

    def answer(self, block: bytes, content: bytes, last_block: bytes) -> bool:
        """Send a whole answer at once if the peer takes it; return whether it did.

        Args:
            block: the headers.
            content: the body.
            last_block: the trailers.
        """
        n_bytes = len(content)
        if n_bytes > self._connection.outlet.room(self):
            return False
        stream_id = self.stream_id
        self._connection.write(
            b"".join(
                (
                    head(Kind.HEADERS, Flag.END_HEADERS, stream_id, len(block)),
                    block,
                    head(Kind.DATA, 0, stream_id, n_bytes),
                    content,
                    head(Kind.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, stream_id, len(last_block)),
                    last_block,
                )
            )
        )
        self._connection.sent(n_bytes, self)
        self.is_answered = True
        return True

    def send_headers(self, block: bytes, *, is_last: bool = False) -> None:
        """Send headers or trailers."""
        flags = Flag.END_HEADERS | (Flag.END_STREAM if is_last else 0)
        self._connection.write(frame(Kind.HEADERS, flags, self.stream_id, block))
        self.is_answered = is_last

    async def send(self, content: bytes) -> None:
        """Send a part of the body, as the peer takes it.

        Raises:
            PeerGone: it takes nothing any more.
        """
        view, at = memoryview(content), 0
        while at < len(view):
            n_bytes = self._connection.outlet.room(self)
            if n_bytes <= 0:
                await self._connection.outlet.more_room()
                continue
            piece = view[at : at + n_bytes]
            self._connection.write(frame(Kind.DATA, 0, self.stream_id, bytes(piece)))
            self._connection.sent(len(piece), self)
            at += len(piece)

    def reset(self, code: Code) -> None:
        """End it without an answer."""
        self._connection.reset(self.stream_id, code)
        self.is_answered = True
