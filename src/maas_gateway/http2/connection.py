"""One connection: frames in, streams to whoever serves them, rules that hold for all of them.

Rules: what breaks a rule of one stream ends that stream, what breaks one of the connection ends it with a sentence; a
stream counts until whoever serves it has ended, so that taking it back makes no room for another one; what leads
nowhere is bounded (`patience`); a connection that does not begin, that is silent and does not answer, or that has had
no call for long, is closed. Leaving is in order: the peer is told, later streams are refused, those there are answered.

Source: RFC 9113, sections 3.4, 5, 6 and 6.8.
"""

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, Final

from maas_gateway.http2.frames import (
    FIRST_WINDOW,
    MAX_WINDOW,
    PING_BYTES,
    PRIORITY_BYTES,
    Code,
    ConnectionFault,
    Flag,
    Kind,
    Setting,
    StreamFault,
    frame,
    go_away,
    number_of,
    reset,
    settings,
    settings_of,
    unpadded,
    window_update,
)
from maas_gateway.http2.headers import HeaderReader, check_request
from maas_gateway.http2.intake import Intake
from maas_gateway.http2.outlet import Outlet
from maas_gateway.http2.patience import ANSWERED, RESET, Bounds, Patience
from maas_gateway.http2.stream import PeerGone, Stream

Serve = Callable[[Stream], Coroutine[Any, Any, None]]

BEGIN_S: Final = 10.0
"""Seconds that a peer has to begin."""
ANSWER_S: Final = 20.0
"""Seconds that a peer has to answer a ping, and to take what was written before the connection closes."""
LINGER_S: Final = 2.0
"""Seconds that a peer has to close itself, once it was told that, or why, it is the end."""

_WINDOW: Final = 1 << 24
"""Bytes that a peer may send on all streams together before it is told that there is room again."""
_MOST_UNSENT: Final = 1 << 20
_PING: Final = b"maas\0\0\0\0"


class Connection(asyncio.Protocol):
    """A peer.

    Args:
        serve: answers a stream; run in a task of its own, which is cancelled when the peer takes the stream back.
        bounds: what it may take.
        all_of_port: where it is while it is open.

    Attributes:
        loop: where it runs.
        outlet: what the peer takes now.
        gone: done once it is closed.
    """

    def __init__(self, serve: Serve, bounds: Bounds, all_of_port: "set[Connection]") -> None:
        self.loop = asyncio.get_running_loop()
        self._serve = serve
        self._bounds = bounds
        self._all = all_of_port
        self._transport: asyncio.Transport | None = None
        self._intake = Intake(bounds.max_header_bytes)
        self._reader = HeaderReader(bounds.max_header_bytes)
        self._patience = Patience(bounds.max_streams, bounds.least_ping_s)
        self._streams: dict[int, Stream] = {}
        self._is_over = self._is_closing = False
        self._last_id = 0
        self._final_id: int | None = None
        self._window_left = FIRST_WINDOW
        self.outlet = Outlet(bounds.idle_s)
        self.gone: asyncio.Future[None] = self.loop.create_future()
        self._began_s = self._heard_s = self._busy_s = self.loop.time()
        self._asked_s: float | None = None
        self._ends_s: float | None = None
        self._takes: dict[int, Callable[[int, int, bytes], None]] = {
            Kind.DATA: self._on_data,
            Kind.HEADERS: self._on_headers,
            Kind.PRIORITY: self._on_priority,
            Kind.RST_STREAM: self._on_reset,
            Kind.SETTINGS: self._on_settings,
            Kind.PUSH_PROMISE: self._on_push,
            Kind.PING: self._on_ping,
            Kind.GOAWAY: self._on_go_away,
            Kind.WINDOW_UPDATE: self._on_window_update,
        }

    # --- what asyncio tells ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the peer; one that was not asked for HTTP/2 in its TLS handshake is let go."""
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]  # uvloop's is none of asyncio's classes
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            transport.close()
            return
        self._all.add(self)
        ours = {
            Setting.MAX_CONCURRENT_STREAMS: self._bounds.max_streams,
            Setting.MAX_HEADER_LIST_SIZE: self._bounds.max_header_bytes,
        }
        self.write(settings(ours) + window_update(0, _WINDOW - FIRST_WINDOW))
        self._window_left = _WINDOW

    def connection_lost(self, _error: Exception | None) -> None:
        """End what is served."""
        self._all.discard(self)
        self._transport = None
        self._end_streams()
        if not self.gone.done():
            self.gone.set_result(None)

    def pause_writing(self) -> None:
        """Have answers wait: the peer does not take them as quickly as they come."""
        self.outlet.pause(is_paused=True)

    def resume_writing(self) -> None:
        """Have answers go on."""
        self.outlet.pause(is_paused=False)

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        if self._is_over:
            return  # read until the peer has seen why: closed before, the connection would be reset, and that lost
        self._heard_s = self.loop.time()
        self._asked_s = None
        try:
            for kind, flags, stream_id, payload in self._intake.frames(data):
                self._on_frame(kind, flags, stream_id, payload)
        except ConnectionFault as fault:
            self._give_up(fault.code, fault.sentence)

    # --- what the port asks ---

    def leave(self) -> None:
        """Tell the peer to begin nothing more; what it has begun is answered."""
        if self._final_id is None:
            self._final_id = self._last_id
            self.write(go_away(self._last_id, Code.NO_ERROR))
            self._end_if_answered()

    def close(self) -> None:
        """Close once everything has left, or the peer does not take it for long."""
        self._is_closing = True
        self._ends_s = self.loop.time() + ANSWER_S
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close now."""
        if self._transport is not None:
            self._transport.abort()

    def look(self, now_s: float) -> None:
        """Close the connection if it is time, or ask whether the peer is there."""
        if self._streams:
            self._busy_s = now_s
        if self._ends_s is not None:
            if now_s > self._ends_s:
                self.abort() if self._is_closing else self.close()
        elif not self._intake.has_begun and now_s - self._began_s > BEGIN_S:
            self._give_up(Code.SETTINGS_TIMEOUT, "the connection did not begin")
        elif self._asked_s is not None and now_s - self._asked_s > ANSWER_S:
            self.abort()
        elif now_s - self._busy_s > self._bounds.idle_s:
            self.leave()
        elif self._asked_s is None and now_s - self._heard_s > self._bounds.ping_every_s:
            self._asked_s = now_s
            self.write(frame(Kind.PING, 0, 0, _PING))

    # --- what streams ask ---

    def write(self, data: bytes) -> None:
        """Send frames."""
        if self._transport is not None:
            self._transport.write(data)

    def sent(self, n_bytes: int, stream: Stream) -> None:
        """Count bytes of a stream that were sent."""
        self.outlet.sent(n_bytes, stream)
        self._patience.earn()

    def reset(self, stream_id: int, code: Code) -> None:
        """End a stream."""
        self.write(reset(stream_id, code))

    # --- frames ---

    def _on_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        take = self._takes.get(kind)
        if take is None:
            self._patience.spend()  # RFC 9113 section 5.5: unknown types are passed over
            return
        try:
            take(flags, stream_id, payload)
        except StreamFault as fault:
            self._patience.spend()
            self._end_faulty(stream_id, fault.code)

    def _end_faulty(self, stream_id: int, code: Code) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            self.reset(stream_id, code)
        elif not stream.is_reset:
            stream.reset(code)
            stream.is_reset = True
            if stream.task is not None:
                stream.task.cancel()

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        n_bytes = len(payload)
        self._window_left -= n_bytes
        if self._window_left < _WINDOW // 2:  # never used up; what lies here is bounded by the streams' own windows
            self.write(window_update(0, _WINDOW - self._window_left))
            self._window_left = _WINDOW
        stream = self._known(stream_id, "DATA")
        if stream is None or stream.is_reset:
            self._patience.spend()
            return
        if stream.is_ended:
            raise StreamFault(Code.STREAM_CLOSED, "data behind the end")
        stream.window_left -= n_bytes
        if stream.window_left < 0:
            raise StreamFault(Code.FLOW_CONTROL_ERROR, "more data than there is room")
        content = unpadded(payload, flags)
        if content:
            self._patience.earn()
            stream.feed(content)
        elif not flags & Flag.END_STREAM:
            self._patience.spend()
        if flags & Flag.END_STREAM:
            stream.end()

    def _known(self, stream_id: int, name: str) -> Stream | None:
        """Return a stream, None for one that has ended.

        Raises:
            ConnectionFault: it never began.
        """
        if not stream_id or stream_id > self._last_id or stream_id % 2 == 0:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"{name} of a stream that never began")
        return self._streams.get(stream_id)

    def _on_headers(self, flags: int, stream_id: int, block: bytes) -> None:
        if stream_id % 2 == 0:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a client's streams have odd numbers")
        headers = self._reader.read(block)  # in every case: later blocks build on it
        stream = self._streams.get(stream_id)
        if stream is not None:
            if stream.is_ended or not flags & Flag.END_STREAM:
                raise StreamFault(Code.PROTOCOL_ERROR, "headers within a request")
            stream.end()  # trailers, which say nothing here
            return
        if stream_id <= self._last_id:
            self._patience.spend()  # trailers of a stream that has ended meanwhile
            return
        self._last_id = stream_id
        if self._final_id is not None or len(self._streams) >= self._bounds.max_streams:
            raise StreamFault(Code.REFUSED_STREAM, "no room")
        check_request(headers)
        stream = Stream(self, stream_id, headers, self.outlet.first_window)
        stream.is_ended = bool(flags & Flag.END_STREAM)
        self._streams[stream_id] = stream
        stream.task = task = self.loop.create_task(self._serve(stream))
        task.add_done_callback(lambda done: self._served(stream, done))

    def _served(self, stream: Stream, task: "asyncio.Task[None]") -> None:
        del self._streams[stream.stream_id]
        if not task.cancelled() and task.exception() is not None and not isinstance(task.exception(), PeerGone):
            context = {"message": "a stream's task has failed", "exception": task.exception(), "task": task}
            self.loop.call_exception_handler(context)
        if not stream.is_reset:
            if not stream.is_answered:
                self.reset(stream.stream_id, Code.CANCEL if task.cancelled() else Code.INTERNAL_ERROR)
            else:
                self._patience.earn(ANSWERED)
                if not stream.is_ended:
                    self.reset(stream.stream_id, Code.NO_ERROR)  # the answer is whole: nothing more is read
        if not self._streams:
            self._busy_s = self.loop.time()
            self._end_if_answered()

    def _on_priority(self, _flags: int, _stream_id: int, payload: bytes) -> None:
        if len(payload) != PRIORITY_BYTES:
            raise StreamFault(Code.FRAME_SIZE_ERROR, "PRIORITY of a wrong size")
        self._patience.spend()

    def _on_reset(self, _flags: int, stream_id: int, payload: bytes) -> None:
        number_of(payload, "RST_STREAM")
        stream = self._known(stream_id, "RST_STREAM")
        if stream is None or stream.is_reset:
            self._patience.spend()
            return
        self._patience.spend(RESET)
        stream.is_reset = True
        if stream.task is not None:
            stream.task.cancel()

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "SETTINGS of a stream")
        if flags & Flag.ACK:
            if payload:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "SETTINGS of a wrong size")
            return
        self._patience.spend()
        for name, value in settings_of(payload):
            self.outlet.set(name, value, self._streams.values())
        self._control(frame(Kind.SETTINGS, Flag.ACK, 0))

    def _on_push(self, _flags: int, _stream_id: int, _payload: bytes) -> None:
        raise ConnectionFault(Code.PROTOCOL_ERROR, "a client pushes nothing")

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PING of a stream")
        if len(payload) != PING_BYTES:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "PING of a wrong size")
        if not flags & Flag.ACK:
            self._patience.ping(self._heard_s)
            self._control(frame(Kind.PING, Flag.ACK, 0, payload))

    def _on_go_away(self, _flags: int, stream_id: int, _payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "GOAWAY of a stream")
        self._patience.spend()  # it will close the connection itself

    def _on_window_update(self, _flags: int, stream_id: int, payload: bytes) -> None:
        increment = number_of(payload, "WINDOW_UPDATE") & MAX_WINDOW
        self._patience.spend()
        if not stream_id:
            self.outlet.widen(increment)
            return
        stream = self._known(stream_id, "WINDOW_UPDATE")
        if stream is not None:
            self.outlet.widen_stream(stream, increment)

    # --- the end ---

    def _control(self, data: bytes) -> None:
        """Send what the peer's frame asks for; one that does not read its answers is let go."""
        if self._transport is not None and self._transport.get_write_buffer_size() > _MOST_UNSENT:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "answers are not taken")
        self.write(data)

    def _give_up(self, code: Code, sentence: str) -> None:
        if self._transport is None or self._is_over:
            return
        self._is_over = True
        self.write(go_away(self._last_id, code, sentence))
        self._end_streams()
        if self._transport.can_write_eof():
            self._transport.write_eof()
            self._is_closing, self._ends_s = True, self.loop.time() + LINGER_S
        else:
            self.close()

    def _end_if_answered(self) -> None:
        """Leave it to the peer to close, which has seen that this is the end; close if it does not."""
        if self._final_id is not None and not self._streams and self._ends_s is None:
            self._ends_s = self.loop.time() + LINGER_S

    def _end_streams(self) -> None:
        self.outlet.close()
        for stream in list(self._streams.values()):
            stream.is_reset = True
            if stream.task is not None:
                stream.task.cancel()
