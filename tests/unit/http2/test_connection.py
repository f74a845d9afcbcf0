"""A connection of HTTP/2, frame by frame: what is answered, what ends a stream, what ends the connection.

Source: RFC 9113; the sections stand beside the cases.
"""

import asyncio
import struct
from contextlib import suppress

import pytest

from builders.http2 import BOUNDS, REQUEST, Peer, echo, http2
from maas_gateway.http2.connection import ANSWER_S, Connection
from maas_gateway.http2.frames import (
    FIRST_WINDOW,
    PREFACE,
    Code,
    ConnectionFault,
    Flag,
    Kind,
    Setting,
    frame,
    settings,
    window_update,
)
from maas_gateway.http2.headers import HeaderReader
from maas_gateway.http2.patience import Bounds, Patience
from maas_gateway.http2.stream import PeerGone, Stream

pytestmark = pytest.mark.anyio

END = Flag.END_STREAM
PING = frame(Kind.PING, 0, 0, b"12345678")


def data(stream_id: int, content: bytes = b"", flags: int = END) -> bytes:
    return frame(Kind.DATA, flags, stream_id, content)


async def test_request_is_answered_with_headers_body_and_trailers() -> None:
    async with http2() as (_, opened):
        peer = await opened()
        peer.send(peer.headers(1), data(1, b"abc"))
        assert await peer.answer(1) == ([(":status", "200")], b"abc", [("last", "one")])


async def test_frames_may_come_byte_by_byte() -> None:
    async with http2() as (_, opened):
        peer = await opened(greets=False)
        for byte in PREFACE + settings({}) + peer.headers(1) + data(1, b"ab", 0) + data(1, b"c"):
            peer.send(bytes((byte,)))
            await asyncio.sleep(0)
        assert (await peer.answer(1))[1] == b"abc"


async def test_streams_are_answered_as_they_are_ready() -> None:
    async with http2() as (_, opened):
        peer = await opened()
        peer.send(peer.headers(1), peer.headers(3), data(3, b"later"), data(1, b"sooner", 0))
        assert (await peer.answer(3))[1] == b"later"
        peer.send(data(1))
        assert (await peer.answer(1))[1] == b"sooner"


async def test_headers_that_stay_the_same_and_then_change_are_read_rightly() -> None:
    seen = []

    async def tell(stream: Stream) -> None:
        seen.append(dict(stream.headers)[b"x"])
        await echo(stream)

    async with http2(tell) as (_, opened):
        peer = await opened()
        for number, value in enumerate(("a", "a", "a", "b", "a", "b", "b")):
            stream_id = 2 * number + 1
            peer.send(peer.headers(stream_id, [*REQUEST, ("x", value)]), data(stream_id))
            await peer.answer(stream_id)
    assert seen == [b"a", b"a", b"a", b"b", b"a", b"b", b"b"]


async def test_padding_and_priority_are_passed_over() -> None:
    async with http2() as (_, opened):
        peer = await opened()
        block = peer.encoder.encode(REQUEST)
        flags = Flag.END_HEADERS | Flag.PADDED | Flag.PRIORITY
        peer.send(
            frame(Kind.HEADERS, flags, 1, b"\x03" + b"\0\0\0\0\x10" + block + b"\0\0\0"),
            frame(Kind.PRIORITY, 0, 1, b"\0\0\0\0\x10"),
            frame(0xEE, 0xFF, 1, b"of an extension"),
            data(1, b"\x02abc\0\0", END | Flag.PADDED),
        )
        assert (await peer.answer(1))[1] == b"abc"


async def test_headers_may_go_on_and_trailers_may_follow() -> None:
    async with http2() as (_, opened):
        peer = await opened()
        block = peer.encoder.encode(REQUEST)
        peer.send(
            frame(Kind.HEADERS, 0, 1, block[:5]),
            frame(Kind.CONTINUATION, 0, 1, block[5:9]),
            frame(Kind.CONTINUATION, Flag.END_HEADERS, 1, block[9:]),
            data(1, b"abc", 0),
            peer.headers(1, [("x", "trailer")], flags=Flag.END_HEADERS | END),
        )
        assert (await peer.answer(1))[1] == b"abc"
        block = peer.encoder.encode(REQUEST)
        peer.send(frame(Kind.HEADERS, END, 3, block[:5]), frame(Kind.CONTINUATION, Flag.END_HEADERS, 3, block[5:]))
        assert (await peer.answer(3))[1] == b""


@pytest.mark.parametrize(
    ("window", "content"), [(10, b"x" * 95), (1, b"x" * 30), (FIRST_WINDOW, b"x" * 200_000), (0, b"x")]
)
async def test_answer_waits_for_the_windows_of_its_stream_and_connection(window: int, content: bytes) -> None:
    async def tell(stream: Stream) -> None:
        stream.send_headers(b"\x88")
        await stream.send(content)
        stream.send_headers(b"", is_last=True)

    async with http2(tell) as (_, opened):
        peer = await opened()
        peer.send(settings({Setting.INITIAL_WINDOW_SIZE: window}), peer.headers(1, flags=ENDED))
        assert (await peer.next(Kind.HEADERS)).stream_id == 1
        got, room, of_connection = 0, window, FIRST_WINDOW
        while got < len(content):
            if not room:
                assert await peer.is_alive()
                peer.send(window_update(1, 50_000))
                room += 50_000
            if not of_connection:
                peer.send(window_update(0, 70_000))
                of_connection += 70_000
            found = await peer.next(Kind.DATA)
            got, room, of_connection = (
                n - s * len(found.payload) for n, s in ((got, -1), (room, 1), (of_connection, 1))
            )
            assert min(room, of_connection) >= 0
            assert len(found.payload) <= 16_384
        assert (await peer.next(Kind.HEADERS)).flags & END


async def test_window_that_shrinks_below_nothing_holds_the_answer_back() -> None:
    async with http2() as (_, opened):
        peer = await opened()
        peer.send(settings({Setting.INITIAL_WINDOW_SIZE: 5}), peer.headers(1), data(1, b"0123456789"))
        assert (await peer.next(Kind.DATA)).payload == b"01234"
        peer.send(settings({Setting.INITIAL_WINDOW_SIZE: 0}), window_update(1, 5))
        await asyncio.sleep(0.1)
        assert await peer.is_alive()
        assert sum(found.kind == Kind.DATA for found in peer.frames) == 1
        peer.send(window_update(1, 5))
        assert (await peer.next(Kind.DATA)).payload == b"56789"


async def test_long_body_is_let_in_as_it_is_asked_for() -> None:
    content = bytes(range(256)) * 2_000
    async with http2() as (_, opened):
        peer = await opened()
        peer.send(peer.headers(1))
        room, at = FIRST_WINDOW, 0
        while at < len(content):
            if not room:
                found = await peer.next(Kind.WINDOW_UPDATE)
                room += struct.unpack(">L", found.payload)[0] if found.stream_id == 1 else 0
                continue
            piece = content[at : at + min(room, 16_384)]
            peer.send(data(1, piece, 0))
            room, at = room - len(piece), at + len(piece)
        peer.send(data(1), window_update(0, 1 << 20), window_update(1, 1 << 20))
        assert (await peer.answer(1))[1] == content


async def test_body_that_nobody_asks_for_stays_within_its_window() -> None:
    async def wait(_: Stream) -> None:
        await asyncio.sleep(60)

    async with http2(wait) as (_, opened):
        peer = await opened()
        peer.send(peer.headers(1))
        for _ in range(4):
            peer.send(data(1, bytes(16_383), 0))
        assert await peer.is_alive()
        peer.send(data(1, bytes(16_383), 0))
        found = await peer.next(Kind.RST_STREAM)
        assert (found.stream_id, found.code) == (1, Code.FLOW_CONTROL_ERROR)


async def test_answer_that_is_whole_before_its_request_has_the_peer_stop() -> None:
    async def refuse(stream: Stream) -> None:
        stream.send_headers(b"\x88", is_last=True)

    async with http2(refuse) as (_, opened):
        peer = await opened()
        peer.send(peer.headers(1))
        assert (await peer.next(Kind.HEADERS)).flags & END
        found = await peer.next(Kind.RST_STREAM)
        assert (found.stream_id, found.code) == (1, Code.NO_ERROR)
        peer.send(data(1, b"on its way"), peer.headers(1, [("x", "late")], flags=Flag.END_HEADERS | END))
        assert await peer.is_alive()


async def test_stream_that_is_taken_back_ends_its_task_and_frees_its_place() -> None:
    ended = []

    async def wait(stream: Stream) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(stream.stream_id)

    async with http2(wait) as (_, opened):
        peer = await opened()
        for first in (1, 101):
            ids = [first + 2 * n for n in range(BOUNDS.max_streams)]
            peer.send(*(peer.headers(n) for n in ids))
            assert await peer.is_alive()
            peer.send(*(frame(Kind.RST_STREAM, 0, n, bytes(3) + b"\x08") for n in ids))
            assert await peer.is_alive()
    assert len(ended) == 2 * BOUNDS.max_streams
    assert not any(found.kind == Kind.RST_STREAM for found in peer.frames)


async def test_one_stream_more_than_is_allowed_is_refused_and_the_others_go_on() -> None:
    async with http2() as (_, opened):
        peer = await opened()
        ids = [2 * n + 1 for n in range(BOUNDS.max_streams + 1)]
        peer.send(*(peer.headers(n) for n in ids))
        found = await peer.next(Kind.RST_STREAM)
        assert (found.stream_id, found.code) == (ids[-1], Code.REFUSED_STREAM)
        peer.send(*(data(n, b"x") for n in ids[:-1]))
        for n in ids[:-1]:
            assert (await peer.answer(n))[1] == b"x"


async def test_task_that_fails_ends_its_stream_only() -> None:
    async def fail(stream: Stream) -> None:
        if stream.stream_id == 1:
            raise ValueError("ours")
        await echo(stream)

    failures = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    try:
        async with http2(fail) as (_, opened):
            peer = await opened()
            peer.send(peer.headers(1), peer.headers(3), data(3, b"x"))
            assert (await peer.answer(3))[1] == b"x"
            there = [found for found in peer.frames if found.kind == Kind.RST_STREAM]
            (found,) = there or [await peer.next(Kind.RST_STREAM)]
            assert (found.stream_id, found.code) == (1, Code.INTERNAL_ERROR)
    finally:
        asyncio.get_running_loop().set_exception_handler(None)
    assert len(failures) == 1


H = Kind.HEADERS
ENDED = Flag.END_HEADERS | END


def _without(*names: str) -> list[tuple[str, str]]:
    return [header for header in REQUEST if header[0] not in names]


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(_without(":method"), id="8.3.1 no method"),
        pytest.param(_without(":path"), id="8.3.1 no path"),
        pytest.param(_without(":scheme"), id="8.3.1 no scheme"),
        pytest.param([*REQUEST[:4], (":path", "/again"), *REQUEST[4:]], id="8.3.1 two paths"),
        pytest.param([(":status", "200"), *REQUEST], id="8.3 a pseudo-header of answers"),
        pytest.param([REQUEST[4], *REQUEST[:4]], id="8.3 a pseudo-header behind others"),
        pytest.param([*REQUEST, ("X-Upper", "x")], id="8.2.1 capitals"),
        pytest.param([*REQUEST, ("", "x")], id="8.2.1 no name"),
        pytest.param([*REQUEST, ("x", "a\nb")], id="8.2.1 a newline"),
        pytest.param([*REQUEST, ("x", "a\0b")], id="8.2.1 a NUL"),
        pytest.param([*REQUEST, ("connection", "close")], id="8.2.2 connection"),
        pytest.param([*REQUEST, ("transfer-encoding", "chunked")], id="8.2.2 transfer-encoding"),
        pytest.param([*_without("te"), ("te", "gzip")], id="8.2.2 another te"),
    ],
)
async def test_request_that_is_malformed_ends_its_stream_only(headers: list[tuple[str, str]]) -> None:
    async with http2() as (_, opened):
        peer = await opened()
        peer.send(peer.headers(1, headers, flags=ENDED))
        found = await peer.next(Kind.RST_STREAM)
        assert (found.stream_id, found.code) == (1, Code.PROTOCOL_ERROR)
        peer.send(peer.headers(3), data(3, b"x"))
        assert (await peer.answer(3))[1] == b"x"


def _number(value: int) -> bytes:
    return struct.pack(">L", value)


STREAM_FAULTS = {
    "5.1 data behind the end": (lambda p: [p.headers(1, flags=ENDED), data(1)], Code.STREAM_CLOSED),
    "8.1 headers within a request": (lambda p: [p.headers(1), p.headers(1)], Code.PROTOCOL_ERROR),
    "6.9 a window by nothing": (lambda p: [p.headers(1), window_update(1, 0)], Code.PROTOCOL_ERROR),
    "6.9.1 a window too large": (lambda p: [p.headers(1), window_update(1, 2**31 - 1)], Code.FLOW_CONTROL_ERROR),
    "6.3 PRIORITY of a wrong size": (
        lambda p: [p.headers(1), frame(Kind.PRIORITY, 0, 1, b"1234")],
        Code.FRAME_SIZE_ERROR,
    ),
}


@pytest.mark.parametrize("case", STREAM_FAULTS)
async def test_fault_of_a_stream_ends_that_stream_only(case: str) -> None:
    ended = asyncio.Event()

    async def wait(stream: Stream) -> None:
        try:
            await (asyncio.sleep(60) if stream.stream_id == 1 else echo(stream))
        finally:
            ended.set()

    sends, code = STREAM_FAULTS[case]
    async with http2(wait) as (_, opened):
        peer = await opened()
        begins, *breaks = sends(peer)
        peer.send(begins)
        assert await peer.is_alive()
        peer.send(*breaks)
        found = await peer.next(Kind.RST_STREAM)
        assert (found.stream_id, found.code) == (1, code)
        async with asyncio.timeout(5):
            await ended.wait()
        peer.send(peer.headers(3), data(3, b"x"))
        assert (await peer.answer(3))[1] == b"x"


CONNECTION_FAULTS = {
    "4.2 a frame too large": (lambda _: [frame(Kind.DATA, 0, 1, bytes(16_385))], Code.FRAME_SIZE_ERROR),
    "4.3 headers that cannot be read": (
        lambda _: [frame(H, ENDED, 1, b"\xff\xff\xff\xff\xff")],
        Code.COMPRESSION_ERROR,
    ),
    "4.3 a size of the table that is not allowed": (
        lambda _: [frame(H, ENDED, 1, b"\x3f\xe2\x1f")],
        Code.COMPRESSION_ERROR,
    ),
    "5.1 data of a stream that never began": (lambda _: [data(1)], Code.PROTOCOL_ERROR),
    "5.1 a window of a stream that never began": (lambda _: [window_update(1, 5)], Code.PROTOCOL_ERROR),
    "5.1 a reset of a stream that never began": (
        lambda _: [frame(Kind.RST_STREAM, 0, 1, _number(8))],
        Code.PROTOCOL_ERROR,
    ),
    "5.1.1 an even number": (lambda p: [p.headers(2)], Code.PROTOCOL_ERROR),
    "5.1.1 no number": (lambda p: [p.headers(0)], Code.PROTOCOL_ERROR),
    "6.1 data of no stream": (lambda _: [data(0)], Code.PROTOCOL_ERROR),
    "6.1 more padding than payload": (lambda p: [p.headers(1), data(1, b"\x09abc", Flag.PADDED)], Code.PROTOCOL_ERROR),
    "6.2 a priority that is cut short": (lambda _: [frame(H, ENDED | Flag.PRIORITY, 1, b"abc")], Code.FRAME_SIZE_ERROR),
    "6.2 another frame within headers": (lambda _: [frame(H, 0, 1, b""), PING], Code.PROTOCOL_ERROR),
    "6.4 a reset of a wrong size": (
        lambda p: [p.headers(1), frame(Kind.RST_STREAM, 0, 1, b"abc")],
        Code.FRAME_SIZE_ERROR,
    ),
    "6.5 settings of a wrong size": (lambda _: [frame(Kind.SETTINGS, 0, 0, b"abc")], Code.FRAME_SIZE_ERROR),
    "6.5 settings of a stream": (lambda _: [frame(Kind.SETTINGS, 0, 1)], Code.PROTOCOL_ERROR),
    "6.5 an acknowledgement with a payload": (
        lambda _: [frame(Kind.SETTINGS, Flag.ACK, 0, bytes(6))],
        Code.FRAME_SIZE_ERROR,
    ),
    "6.5.2 a push that is neither 0 nor 1": (lambda _: [settings({Setting.ENABLE_PUSH: 2})], Code.PROTOCOL_ERROR),
    "6.5.2 a window too large": (lambda _: [settings({Setting.INITIAL_WINDOW_SIZE: 2**31})], Code.FLOW_CONTROL_ERROR),
    "6.5.2 a frame size too small": (lambda _: [settings({Setting.MAX_FRAME_SIZE: 16_383})], Code.PROTOCOL_ERROR),
    "6.5.2 a frame size too large": (lambda _: [settings({Setting.MAX_FRAME_SIZE: 1 << 24})], Code.PROTOCOL_ERROR),
    "6.6 a push of a client": (lambda _: [frame(Kind.PUSH_PROMISE, 4, 1, bytes(4))], Code.PROTOCOL_ERROR),
    "6.7 a ping of a stream": (lambda _: [frame(Kind.PING, 0, 1, bytes(8))], Code.PROTOCOL_ERROR),
    "6.7 a ping of a wrong size": (lambda _: [frame(Kind.PING, 0, 0, bytes(7))], Code.FRAME_SIZE_ERROR),
    "6.8 a farewell of a stream": (lambda _: [frame(Kind.GOAWAY, 0, 1, bytes(8))], Code.PROTOCOL_ERROR),
    "6.9 a window by nothing": (lambda _: [window_update(0, 0)], Code.PROTOCOL_ERROR),
    "6.9 a window of a wrong size": (lambda _: [frame(Kind.WINDOW_UPDATE, 0, 0, b"abc")], Code.FRAME_SIZE_ERROR),
    "6.9.1 a window too large": (lambda _: [window_update(0, 2**31 - 1)], Code.FLOW_CONTROL_ERROR),
    "6.10 CONTINUATION of nothing": (lambda _: [frame(Kind.CONTINUATION, 4, 1)], Code.PROTOCOL_ERROR),
    "6.10 CONTINUATION of another stream": (
        lambda _: [frame(H, 0, 1, b""), frame(Kind.CONTINUATION, 4, 3)],
        Code.PROTOCOL_ERROR,
    ),
}


@pytest.mark.parametrize("case", CONNECTION_FAULTS)
async def test_fault_of_the_connection_ends_it_with_a_sentence_and_all_its_tasks(case: str) -> None:
    n_running = 0

    async def wait(_: Stream) -> None:
        nonlocal n_running
        n_running += 1
        try:
            await asyncio.sleep(60)
        finally:
            n_running -= 1

    sends, code = CONNECTION_FAULTS[case]
    async with http2(wait) as (_, opened):
        peer, other = await opened(), await opened()
        peer.send(*sends(peer))
        found = await peer.ended()
        assert found.code is code
        assert len(found.payload) > 8
        assert await other.is_alive()
        assert n_running == 0


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n", Code.PROTOCOL_ERROR, id="3.4 HTTP/1.1"),
        pytest.param(PREFACE + PING, Code.PROTOCOL_ERROR, id="3.4 a ping first"),
        pytest.param(PREFACE + frame(Kind.SETTINGS, 1, 0) + PING, Code.PROTOCOL_ERROR, id="3.4 no settings of its own"),
    ],
)
async def test_beginning_that_is_none_is_refused(sent: bytes, code: Code) -> None:
    async with http2() as (_, opened):
        peer = await opened(greets=False)
        peer.send(sent)
        assert (await peer.ended()).code is code


async def test_port_ends_in_order() -> None:
    async with http2() as (port, opened):
        idle, busy = await opened(), await opened()
        busy.send(busy.headers(1))
        assert await busy.is_alive()
        assert await idle.is_alive()
        ending = asyncio.create_task(port.end(30))
        assert (await idle.ended()).code is Code.NO_ERROR
        assert (await busy.next(Kind.GOAWAY)).code is Code.NO_ERROR
        busy.send(busy.headers(3))
        assert (await busy.next(Kind.RST_STREAM)).code is Code.REFUSED_STREAM
        with pytest.raises(ConnectionRefusedError):
            await opened()
        busy.send(data(1, b"x"))
        assert (await busy.answer(1))[1] == b"x"
        async with asyncio.timeout(5):
            assert await busy.reader.read() == b""
            await ending


async def test_port_that_ends_waits_no_longer_than_it_may() -> None:
    async with http2() as (port, opened):
        peer = await opened()
        peer.send(peer.headers(1))
        assert await peer.is_alive()
        async with asyncio.timeout(5):
            await port.end(0.1)


def _bounds(**changes: float) -> Bounds:
    return Bounds(**{name: changes.get(name, getattr(BOUNDS, name)) for name in Bounds.__slots__})  # type: ignore[arg-type]


async def test_silent_peer_is_asked_and_one_without_calls_is_let_go() -> None:
    async with http2(bounds=_bounds(ping_every_s=0.5)) as (_, opened):
        peer = await opened()
        assert not (await peer.next(Kind.PING)).flags
    async with http2(bounds=_bounds(idle_s=0.5)) as (_, opened):
        idle, busy = await opened(), await opened()
        busy.send(busy.headers(1))
        assert (await idle.ended()).code is Code.NO_ERROR
        busy.send(data(1, b"x"))
        assert (await busy.answer(1))[1] == b"x"


async def floods(peer: Peer, *frames: bytes, code: Code = Code.ENHANCE_YOUR_CALM) -> None:
    """Send frames until the peer is sent away for it."""
    ended = asyncio.create_task(peer.ended())
    for _ in range(100_000):
        if ended.done() or peer.writer.transport.is_closing():
            break
        peer.send(*frames)
        await asyncio.sleep(0)
    assert (await ended).code is code


FLOODS = {
    "pings": lambda _: [PING],
    "settings": lambda _: [settings({})],
    "empty data": lambda _: [data(1, b"", 0)],
    "priorities": lambda _: [frame(Kind.PRIORITY, 0, 1, b"\0\0\0\0\x10")],
    "windows": lambda _: [window_update(1, 1)],
    "frames of no known kind": lambda _: [frame(0xEE, 0, 0)],
}


@pytest.mark.parametrize("case", FLOODS)
async def test_flood_of_frames_that_lead_nowhere_is_ended(case: str) -> None:
    async with http2() as (_, opened):
        peer, other = await opened(), await opened()
        peer.send(peer.headers(1))
        await floods(peer, *FLOODS[case](peer))
        assert await other.is_alive()


@pytest.mark.parametrize(("n_streams", "at_once"), [(5_000, 50), (400, 1)])
async def test_streams_begun_and_taken_back_at_once_are_ended(n_streams: int, at_once: int) -> None:
    """CVE-2023-44487, "rapid reset"; and one after another, so that none is one too many."""
    n_begun = 0

    async def wait(_: Stream) -> None:
        nonlocal n_begun
        n_begun += 1
        await asyncio.sleep(60)

    async with http2(wait) as (_, opened):
        peer = await opened()
        ended = asyncio.create_task(peer.ended())
        block = peer.encoder.encode(REQUEST)
        for n in range(n_streams):
            stream_id = 2 * n + 1
            peer.send(frame(H, Flag.END_HEADERS, stream_id, block), frame(Kind.RST_STREAM, 0, stream_id, _number(8)))
            if n % at_once == 0:
                await asyncio.sleep(0.001)
        assert (await ended).code is Code.ENHANCE_YOUR_CALM
    assert n_begun < 1_000


async def test_headers_without_end_are_ended() -> None:
    """CVE-2024-27316, "CONTINUATION flood"; and many small pieces of them."""
    async with http2() as (_, opened):
        for piece in (bytes(16_384), b"", b"x"):
            peer = await opened()
            peer.send(frame(H, 0, 1, b""))
            await floods(peer, frame(Kind.CONTINUATION, 0, 1, piece))
        peer = await opened()
        peer.send(frame(H, 0, 1, b""), *(frame(Kind.CONTINUATION, 0, 1, bytes(16_384)) for _ in range(2)))
        assert (await peer.ended()).code is Code.ENHANCE_YOUR_CALM


async def test_headers_that_inflate_to_many_are_ended() -> None:
    """A long header that is remembered, then named again and again."""
    async with http2() as (_, opened):
        peer = await opened()
        remembered = b"\x40\x01x\x7f\x81\x1e" + b"y" * 4_000  # RFC 7541 section 6.2.1: x, 4,000 letters
        assert len(remembered) < 16_384
        peer.send(frame(H, Flag.END_HEADERS, 1, remembered + b"\xbe" * 4_000))
        assert (await peer.ended()).code is Code.ENHANCE_YOUR_CALM


async def test_pings_come_no_sooner_than_they_may_but_with_calls_between() -> None:
    async with http2(bounds=_bounds(least_ping_s=60)) as (_, opened):
        peer = await opened()
        for n in range(6):
            assert await peer.is_alive()
            peer.send(peer.headers(2 * n + 1), data(2 * n + 1, b"x"))
            await peer.answer(2 * n + 1)
        for _ in range(3):
            assert await peer.is_alive()
        peer.send(PING)
        found = await peer.ended()
        assert (found.code, found.payload[8:]) == (Code.ENHANCE_YOUR_CALM, b"too_many_pings")


async def test_peer_that_asks_and_reads_nothing_is_let_go() -> None:
    """Each ping is paid for by a byte that leads somewhere; what it is answered lies here."""

    async def read(stream: Stream) -> None:
        while await stream.receive(1 << 30) is not None:
            pass

    async with http2(read, bounds=_bounds(least_ping_s=0.0)) as (_, opened):
        peer = await opened(receive_bytes=4_096)
        peer.writer.transport.pause_reading()
        peer.send(peer.headers(1), data(1, b"x", 0))
        await asyncio.sleep(0.05)
        for _ in range(10_000):
            if peer.writer.transport.is_closing():
                break
            peer.send((data(1, b"x", 0) + PING) * 50)
            await peer.writer.drain()
            await asyncio.sleep(0)
        await asyncio.sleep(0.1)
        peer.writer.transport.resume_reading()
        found = await peer.ended()
        assert (found.code, found.payload[8:]) == (Code.ENHANCE_YOUR_CALM, b"answers are not taken")


async def test_answer_that_is_not_taken_waits_and_is_given_up() -> None:
    n_sent, given_up = 0, asyncio.Event()

    async def tell(stream: Stream) -> None:
        nonlocal n_sent
        stream.send_headers(b"\x88")
        try:
            for _ in range(10_000):
                await stream.send(bytes(16_384))
                n_sent += 16_384
        except PeerGone:
            given_up.set()
            raise

    async with http2(tell, bounds=_bounds(idle_s=0.5)) as (_, opened):
        peer = await opened(receive_bytes=4_096)
        peer.writer.transport.pause_reading()
        windows = settings({Setting.INITIAL_WINDOW_SIZE: 2**31 - 1}), window_update(0, 1 << 30)
        peer.send(*windows, peer.headers(1, flags=ENDED))
        async with asyncio.timeout(20):
            await given_up.wait()
        assert 0 < n_sent < 30_000_000


async def test_peer_that_does_not_answer_a_ping_is_cut_off() -> None:
    connections: set[Connection] = set()
    loop = asyncio.get_running_loop()
    bounds = _bounds(ping_every_s=5.0, idle_s=1e9)
    async with await loop.create_server(lambda: Connection(echo, bounds, connections), "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(PREFACE + settings({}))
        peer = Peer(reader, writer)
        await peer.next(Kind.SETTINGS)
        assert await peer.is_alive()
        (connection,) = connections
        connection.look(loop.time() + 6)
        await peer.next(Kind.PING)
        connection.look(loop.time() + 6 + ANSWER_S - 1)
        assert connections
        connection.look(loop.time() + 6 + ANSWER_S + 1)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await peer.next(Kind.GOAWAY)
        assert not connections
        writer.close()


def test_header_that_is_not_remembered_any_more_cannot_be_named() -> None:
    reader = HeaderReader(1_000)
    assert reader.read(b"\x40\x01x\x01y") == [(b"x", b"y")]
    assert reader.read(b"\xbe") == [(b"x", b"y")]
    assert reader.read(b"\x20") == []  # RFC 7541 section 6.3: the table holds nothing from now on
    with pytest.raises(ConnectionFault):
        reader.read(b"\xbe")


def test_store_of_patience_holds_no_more_than_it_did_at_first() -> None:
    patience, other = Patience(10, 0.0), Patience(10, 0.0)
    patience.earn(1_000_000)

    def spent(store: Patience) -> int:
        n = 0
        with suppress(ConnectionFault):
            while True:
                store.spend()
                n += 1
        return n

    assert spent(patience) == spent(other)
