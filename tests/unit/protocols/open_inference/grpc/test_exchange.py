"""A call over HTTP/2, as its frames say it: what is read, what is answered, what is no call.

Source: gRPC, "gRPC over HTTP2" and "Compression".
"""

import gzip
import re
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from builders.http2 import REQUEST, Peer, http2
from maas_gateway.errors import GatewayError, MalformedBody
from maas_gateway.http2.frames import FIRST_WINDOW, Flag, Kind, Setting, frame, settings
from maas_gateway.http2.stream import Stream
from maas_gateway.protocols.open_inference.grpc.exchange import CallExchange
from maas_gateway.protocols.open_inference.grpc.statuses import Status, code_of

pytestmark = pytest.mark.anyio

MAX_MESSAGE_BYTES = 100_000
TEXT = b"one message " * 100

Answered = tuple[list[tuple[str, str]], bytes, list[tuple[str, str]]]


def message(content: bytes, flag: int = 0) -> bytes:
    return bytes((flag,)) + len(content).to_bytes(4, "big") + content


def said(answered: Answered) -> tuple[Status, str]:
    """The status of a call and its sentence."""
    trailers = dict(answered[2] or answered[0])
    return Status(int(trailers["grpc-status"])), trailers.get("grpc-message", "")


async def echo(stream: Stream) -> None:
    """Answer each message with itself, an unknown path with its only message at once."""
    exchange = CallExchange(stream, MAX_MESSAGE_BYTES)
    if exchange.fault is not None:
        exchange.refuse_http(exchange.fault)
        return
    try:
        exchange.left_s()
        if exchange.path == "/service/One":
            only = exchange.read_now()
            if only is None:
                only = await exchange.read()
            assert only is not None
            await exchange.answer(only, (("x-more", "here"),))
            return
        while (found := await exchange.read()) is not None:
            await exchange.write(found)
    except GatewayError as error:
        exchange.end(code_of(error), error.detail, (("x-more", "there"),))
    else:
        exchange.end(Status.OK, "", ())


@asynccontextmanager
async def called(*pieces: bytes, **more: str) -> AsyncIterator[Answered]:
    """Yield the answer to a call whose body is sent in these pieces."""
    async with http2(echo) as (_, opened):
        peer = await opened()
        yield await _ask(peer, *pieces, **more)


async def _ask(peer: Peer, *pieces: bytes, **more: str) -> Answered:
    headers = {
        **dict(REQUEST),
        **{name.replace("_", "-").replace("pseudo-", ":"): value for name, value in more.items()},
    }
    body = [frame(Kind.DATA, 0, 1, piece) for piece in pieces]
    peer.send(peer.headers(1, headers.items()), *body, frame(Kind.DATA, Flag.END_STREAM, 1))
    return await peer.answer(1)


async def test_messages_come_and_go_in_order_however_they_are_cut() -> None:
    whole = message(b"a") + message(b"") + message(TEXT)
    for pieces in ([whole], [whole[i : i + 1] for i in range(len(whole))], [whole[:3], whole[3:8], whole[8:]]):
        async with called(*pieces) as answered:
            assert answered[0] == [(":status", "200"), ("content-type", "application/grpc")]
            assert answered[1] == whole
            assert answered[2] == [("grpc-status", "0")]


@pytest.mark.parametrize("flag", [0, 1])
@pytest.mark.parametrize("content", [b"", b"abc", bytes(40_000)], ids=len)
async def test_one_message_is_answered_with_one_and_what_goes_with_it(content: bytes, flag: int) -> None:
    sent = message(gzip.compress(content) if flag else content, flag)
    window = frame(Kind.WINDOW_UPDATE, 0, 0, (1_000_000).to_bytes(4, "big"))
    async with http2(echo) as (_, opened):
        peer = await opened()
        peer.send(settings({Setting.INITIAL_WINDOW_SIZE: 1_000_000}), window)
        pieces = [sent[i : i + 16_384] for i in range(0, len(sent), 16_384)]
        answered = await _ask(peer, *pieces, pseudo_path="/service/One", grpc_encoding="gzip")
    assert answered[1:] == (message(content), [("grpc-status", "0"), ("x-more", "here")])


async def test_answer_waits_for_the_window_and_its_trailers_come_last() -> None:
    async with http2(echo) as (_, opened):
        peer = await opened()
        peer.send(settings({Setting.INITIAL_WINDOW_SIZE: 7}))
        peer.send(peer.headers(1, {**dict(REQUEST), ":path": "/service/One"}.items()))
        peer.send(frame(Kind.DATA, Flag.END_STREAM, 1, message(b"0123456789")))
        first = await peer.next(Kind.DATA)
        assert first.payload == message(b"0123456789")[:7]
        assert await peer.is_alive()
        assert not [found for found in peer.frames if found.stream_id and found.flags & Flag.END_STREAM]
        peer.send(frame(Kind.WINDOW_UPDATE, 0, 1, (100).to_bytes(4, "big")))
        _, rest, _ = await peer.answer(1)
    assert rest == b"23456789"
    assert peer.frames[-1].flags & Flag.END_STREAM


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("gzip", gzip.compress(TEXT, mtime=0)),
        ("deflate", zlib.compress(TEXT)),
        ("gzip", gzip.compress(b"", mtime=0)),
    ],
    ids=["gzip", "deflate", "nothing"],
)
async def test_compressed_messages_are_inflated_and_answered_as_they_are(encoding: str, content: bytes) -> None:
    async with called(message(content, 1), message(b"as it is"), grpc_encoding=encoding) as answered:
        assert answered[1] == message(zlib.decompress(content, wbits=47)) + message(b"as it is")
        assert said(answered) == (Status.OK, "")


REFUSALS: dict[str, tuple[bytes, dict[str, str], Status, str]] = {
    "cut in its length": (b"\0\0", {}, Status.INVALID_ARGUMENT, "cut short"),
    "cut in its bytes": (message(b"abc")[:-1], {}, Status.INVALID_ARGUMENT, "cut short"),
    "without its bytes": (message(b"abc")[:5], {}, Status.INVALID_ARGUMENT, "cut short"),
    "longer than is taken": (
        b"\0" + (MAX_MESSAGE_BYTES + 1).to_bytes(4, "big"),
        {},
        Status.RESOURCE_EXHAUSTED,
        "100000",
    ),
    "longest length": (b"\0\xff\xff\xff\xff", {}, Status.RESOURCE_EXHAUSTED, "100000"),
    "marked and not said how": (message(b"abc", 1), {}, Status.INVALID_ARGUMENT, "does not say how"),
    "marked and identity": (
        message(b"abc", 1),
        {"grpc_encoding": "identity"},
        Status.INVALID_ARGUMENT,
        "does not say how",
    ),
    "unknown mark": (message(gzip.compress(b"abc"), 2), {"grpc_encoding": "gzip"}, Status.INVALID_ARGUMENT, "marked"),
    "unknown encoding": (message(b"abc", 1), {"grpc_encoding": "snappy"}, Status.UNIMPLEMENTED, "gzip, deflate"),
    "not compressed": (message(b"abc", 1), {"grpc_encoding": "gzip"}, Status.INVALID_ARGUMENT, "not compressed as"),
    "compressed and cut": (
        message(gzip.compress(TEXT)[:-1], 1),
        {"grpc_encoding": "gzip"},
        Status.INVALID_ARGUMENT,
        "not compressed as",
    ),
    "compressed and followed": (
        message(gzip.compress(TEXT) + b"more", 1),
        {"grpc_encoding": "gzip"},
        Status.INVALID_ARGUMENT,
        "not compressed as",
    ),
    "bomb": (
        message(gzip.compress(bytes(10_000_000)), 1),
        {"grpc_encoding": "gzip"},
        Status.RESOURCE_EXHAUSTED,
        "100000",
    ),
    "timeout without unit": (message(b""), {"grpc_timeout": "10"}, Status.INVALID_ARGUMENT, "grpc-timeout"),
    "timeout of nine digits": (message(b""), {"grpc_timeout": "123456789S"}, Status.INVALID_ARGUMENT, "grpc-timeout"),
    "timeout below nothing": (message(b""), {"grpc_timeout": "-1S"}, Status.INVALID_ARGUMENT, "grpc-timeout"),
}


@pytest.mark.parametrize("case", REFUSALS)
async def test_what_cannot_be_read_ends_the_call_with_a_sentence(case: str) -> None:
    body, headers, status, sentence = REFUSALS[case]
    async with called(body, **headers) as answered:
        found = said(answered)
        assert (found[0], sentence in found[1]) == (status, True), found
        assert ("x-more", "there") in answered[2] + answered[0]
        assert answered[1] == b""


@pytest.mark.parametrize(
    ("text", "left_s"),
    [("2H", 7_200), ("3M", 180), ("4S", 4), ("5m", 5e-3), ("6u", 6e-6), ("7n", 7e-9), ("99999999S", 99_999_999)],
)
async def test_timeout_is_read_in_its_unit(text: str, left_s: float) -> None:
    found = []

    async def tell(stream: Stream) -> None:
        exchange = CallExchange(stream, 1)
        found.append(exchange.left_s())
        exchange.end(Status.OK, "", ())

    async with http2(tell) as (_, opened):
        await _ask(await opened(), grpc_timeout=text)
    assert found == [pytest.approx(left_s)]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"pseudo_method": "GET"}, "405"),
        ({"pseudo_method": "PUT"}, "405"),
        ({"content_type": "application/json"}, "415"),
        ({"content_type": "application/grpcx"}, "415"),
        ({"content_type": ""}, "415"),
        ({"content_type": "application/grpc+proto"}, None),
        ({"content_type": "application/grpc;charset=utf-8"}, None),
    ],
)
async def test_what_is_no_call_is_refused_as_http_does(headers: dict[str, str], status: str | None) -> None:
    async with called(message(b""), **headers) as answered:
        if status is None:
            assert said(answered) == (Status.OK, "")
        else:
            assert answered == ([(":status", status)], b"", [])


async def test_sentence_is_written_in_percents_and_read_back() -> None:
    sentence = 'ü % %41 "é"\n\r\0\x7f 日本 end'

    async def refuse(stream: Stream) -> None:
        CallExchange(stream, 1).end(code_of(MalformedBody(sentence)), sentence, ())

    async with http2(refuse) as (_, opened):
        written = said(await _ask(await opened()))[1]
    assert re.fullmatch(r"[\x20-\x7e]*", written)
    parts = re.split(r"%([0-9A-F]{2})", written)
    assert b"".join(bytes.fromhex(p) if i % 2 else p.encode() for i, p in enumerate(parts)).decode() == sentence


async def test_no_more_is_let_in_than_a_message_needs() -> None:
    async with http2(echo) as (_, opened):
        peer = await opened()
        peer.send(peer.headers(1), frame(Kind.DATA, 0, 1, b"\0" + MAX_MESSAGE_BYTES.to_bytes(4, "big")))
        granted = await peer.next(Kind.WINDOW_UPDATE)
        while not granted.stream_id:
            granted = await peer.next(Kind.WINDOW_UPDATE)
    assert FIRST_WINDOW - 5 + int.from_bytes(granted.payload, "big") == MAX_MESSAGE_BYTES


async def test_bomb_is_not_inflated_beyond_its_bound() -> None:
    body = message(gzip.compress(bytes(60_000_000)), 1)
    pieces = [body[i : i + 16_384] for i in range(0, len(body), 16_384)]
    tracemalloc.start()
    try:
        async with called(*pieces, grpc_encoding="gzip") as answered:
            assert said(answered)[0] is Status.RESOURCE_EXHAUSTED
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
