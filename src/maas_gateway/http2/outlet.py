"""What a peer takes now: its windows, its largest frame, and whether the socket takes more.

Source: RFC 9113, sections 5.2 and 6.9.
"""

import asyncio
from collections.abc import Iterable

from maas_gateway.http2.frames import (
    FIRST_WINDOW,
    LEAST_FRAME_BYTES,
    MAX_WINDOW,
    MOST_FRAME_BYTES,
    Code,
    ConnectionFault,
    Setting,
    StreamFault,
)
from maas_gateway.http2.stream import PeerGone, Stream


class Outlet:
    """The way out of one connection.

    Args:
        within_s: seconds that a peer has to take a part of an answer.

    Attributes:
        first_window: of a new stream.
        is_open: whether the peer is there.
    """

    def __init__(self, within_s: float) -> None:
        self._within_s = within_s
        self._window = self.first_window = FIRST_WINDOW
        self._max_frame_bytes = LEAST_FRAME_BYTES
        self._is_paused = False
        self._waiting: set[asyncio.Future[None]] = set()
        self.is_open = True

    def room(self, stream: Stream) -> int:
        """Return how many bytes of a stream may go out in one frame now.

        Raises:
            PeerGone: the peer has left.
        """
        if not self.is_open:
            raise PeerGone
        return 0 if self._is_paused else min(self._window, stream.send_window, self._max_frame_bytes)

    def sent(self, n_bytes: int, stream: Stream) -> None:
        """Count bytes of a stream that went out."""
        self._window -= n_bytes
        stream.send_window -= n_bytes

    async def more_room(self) -> None:
        """Wait until there may be more room.

        Raises:
            PeerGone: the peer took nothing for long, or has left.
        """
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        try:
            async with asyncio.timeout(self._within_s):
                await waiting
        except TimeoutError:
            raise PeerGone from None
        finally:
            self._waiting.discard(waiting)

    def pause(self, *, is_paused: bool) -> None:
        """Take note of whether the socket takes more."""
        self._is_paused = is_paused
        self._wake()

    def close(self) -> None:
        """Take note that the peer has left."""
        self.is_open = False
        self._wake()

    def set(self, name: int, value: int, streams: Iterable[Stream]) -> None:
        """Take what a peer says of itself.

        Raises:
            ConnectionFault: a value is out of its range.
        """
        if name == Setting.INITIAL_WINDOW_SIZE:
            if value > MAX_WINDOW:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window that is too large")
            change, self.first_window = value - self.first_window, value
            for stream in streams:
                stream.send_window += change
                if stream.send_window > MAX_WINDOW:
                    raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window that is too large")
            self._wake()
        elif name == Setting.MAX_FRAME_SIZE:
            if not LEAST_FRAME_BYTES <= value <= MOST_FRAME_BYTES:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "a frame size that is out of range")
            self._max_frame_bytes = value
        elif name == Setting.ENABLE_PUSH and value > 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")

    def widen(self, increment: int) -> None:
        """Take more room on the connection.

        Raises:
            ConnectionFault: by nothing, or more than a window can be.
        """
        if not increment:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
        self._window += increment
        if self._window > MAX_WINDOW:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window that is too large")
        self._wake()

    def widen_stream(self, stream: Stream, increment: int) -> None:
        """Take more room on one stream.

        Raises:
            StreamFault: by nothing, or more than a window can be.
        """
        if not increment:
            raise StreamFault(Code.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
        stream.send_window += increment
        if stream.send_window > MAX_WINDOW:
            raise StreamFault(Code.FLOW_CONTROL_ERROR, "a window that is too large")
        self._wake()

    def _wake(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
