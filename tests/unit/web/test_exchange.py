"""One request on raw ASGI: how much of a body is read, how it is inflated, and what is dropped after a refusal."""

import gzip
import time
import zlib
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.requests import RawClient, scope
from maas_gateway.clock import Deadline
from maas_gateway.errors import DeadlineExceeded, MalformedBody, PayloadTooLarge, UnsupportedEncoding
from maas_gateway.web.exchange import ClientGone, Exchange, length_of

pytestmark = pytest.mark.anyio

MAX = 1_000


def exchange(client: RawClient, *headers: tuple[bytes, bytes]) -> Exchange:
    return Exchange(scope("POST", "/v1/models/m:predict", headers), client.receive, client.send)


async def body_of(client: RawClient, *headers: tuple[bytes, bytes], deadline_s: float = 5) -> bytes:
    return await exchange(client, *headers).body(MAX, Deadline.after(deadline_s))


GZIP, DEFLATE = (b"content-encoding", b"gzip"), (b"content-encoding", b"deflate")
TEXT = b"x" * 900


@pytest.mark.parametrize(
    ("pieces", "headers", "expected"),
    [
        pytest.param([b"abc"], [], b"abc", id="one piece"),
        pytest.param([b"a", b"", b"bc"], [], b"abc", id="many pieces, one of them empty"),
        pytest.param([b""], [], b"", id="nothing"),
        pytest.param([b"x" * MAX], [], b"x" * MAX, id="as much as is accepted"),
        pytest.param([b"abc"], [(b"content-encoding", b"identity")], b"abc", id="identity"),
        pytest.param([b"abc"], [(b"content-encoding", b"Identity")], b"abc", id="identity in capitals"),
        pytest.param([gzip.compress(TEXT)], [GZIP], TEXT, id="gzip"),
        pytest.param([gzip.compress(TEXT)], [(b"content-encoding", b"GZip")], TEXT, id="gzip in capitals"),
        pytest.param([zlib.compress(TEXT)], [DEFLATE], TEXT, id="deflate"),
        pytest.param([gzip.compress(TEXT)[:7], gzip.compress(TEXT)[7:]], [GZIP], TEXT, id="gzip in two pieces"),
        pytest.param([gzip.compress(b"x" * MAX)], [GZIP], b"x" * MAX, id="as much as is accepted, inflated"),
        pytest.param([gzip.compress(b"")], [GZIP], b"", id="nothing, inflated"),
    ],
)
async def test_body_is_read_whole(pieces: list[bytes], headers: list[Any], expected: bytes) -> None:
    assert await body_of(RawClient(list(pieces)), *headers) == expected
    for at in (0, 1, 3, 16, MAX + 1):
        whole = await exchange(RawClient(list(pieces)), *headers).aligned_body(MAX, Deadline.after(5), at)
        assert whole == expected


@pytest.mark.parametrize("at", [0, 1, 7, 8, 150, 159])
async def test_numbers_in_a_body_of_several_pieces_are_aligned(at: int) -> None:
    numbers = np.arange(100, dtype=np.float64)
    body = bytes(at) + numbers.tobytes()
    whole = await exchange(RawClient([body[:100], body[100:]])).aligned_body(MAX, Deadline.after(5), at)
    found = np.frombuffer(whole[at:], np.float64)
    assert found.flags.aligned
    assert np.array_equal(found, numbers)


async def test_size_of_an_aligned_body_is_that_of_what_was_sent() -> None:
    reading = exchange(RawClient([b"a", b"bc"]))
    await reading.aligned_body(MAX, Deadline.after(5), 1)
    assert reading.n_body_bytes == 3


@pytest.mark.parametrize("rest", [[], [b"2"], [b"", memoryview(b"23"), b"4"]])
@pytest.mark.parametrize("is_read", [True, False])
async def test_answer_in_pieces_is_whole_and_has_its_length(rest: list[bytes], *, is_read: bool) -> None:
    client = RawClient([b"{}"])
    answering = exchange(client, (b"content-length", b"2"))
    if is_read:
        await answering.body(MAX, Deadline.after(5))
    await answering.answer(200, b"1", rest=rest)
    assert (client.body, client.is_whole) == (b"1" + b"".join(rest), True)
    assert client.headers[b"content-length"] == str(len(client.body)).encode()


@pytest.mark.parametrize(
    ("pieces", "headers", "error"),
    [
        pytest.param([b"x" * (MAX + 1)], [], PayloadTooLarge, id="one piece too large"),
        pytest.param([b"x" * MAX, b"x"], [], PayloadTooLarge, id="pieces too large together"),
        pytest.param([b"x"], [(b"content-length", b"1001")], PayloadTooLarge, id="too large by its own word"),
        pytest.param([gzip.compress(b"x" * (MAX + 1))], [GZIP], PayloadTooLarge, id="a byte too large, inflated"),
        pytest.param([gzip.compress(bytes(700_000))], [GZIP], PayloadTooLarge, id="a gzip bomb"),
        pytest.param([zlib.compress(bytes(700_000))], [DEFLATE], PayloadTooLarge, id="a deflate bomb"),
        pytest.param([b"abc"], [GZIP], MalformedBody, id="gzip that is none"),
        pytest.param([b""], [GZIP], MalformedBody, id="gzip that is empty"),
        pytest.param([gzip.compress(TEXT)[:-4]], [GZIP], MalformedBody, id="gzip cut short"),
        pytest.param([gzip.compress(TEXT)[:-8] + bytes(8)], [GZIP], MalformedBody, id="gzip with a wrong checksum"),
        pytest.param([gzip.compress(b"{}") + b"more"], [GZIP], MalformedBody, id="something behind the gzip"),
        pytest.param([gzip.compress(b"{}") * 2], [GZIP], MalformedBody, id="two gzips"),
        pytest.param([b"abc"], [(b"content-encoding", b"br")], UnsupportedEncoding, id="another encoding"),
        pytest.param([b"abc"], [(b"content-encoding", b"gzip, gzip")], UnsupportedEncoding, id="two encodings"),
        pytest.param([b"abc"], [(b"content-encoding", b"\xff")], UnsupportedEncoding, id="an encoding that is no text"),
    ],
)
async def test_body_is_refused(pieces: list[bytes], headers: list[Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        await body_of(RawClient(list(pieces)), *headers)


async def test_bomb_is_inflated_no_further_than_is_accepted() -> None:
    bomb = gzip.compress(bytes(200 << 20), 9)
    client = RawClient([bomb])
    began = time.perf_counter()
    with pytest.raises(PayloadTooLarge):
        await exchange(client, GZIP).body(1 << 20, Deadline.after(5))
    assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize("pieces", [[], [b"{"], [b"{", b'"a"']], ids=["nothing", "one piece", "two pieces"])
async def test_slow_body_is_given_up_at_the_deadline(pieces: list[bytes]) -> None:
    began = time.perf_counter()
    with pytest.raises(DeadlineExceeded):
        await body_of(RawClient(pieces, is_endless=True), (b"content-length", b"9"), deadline_s=0.2)
    assert 0.1 < time.perf_counter() - began < 2


async def test_body_after_the_deadline_is_given_up_at_once() -> None:
    with pytest.raises(DeadlineExceeded):
        await body_of(RawClient([], is_endless=True), deadline_s=-1)


@pytest.mark.parametrize("pieces", [[], [b"{"]], ids=["before the body", "within the body"])
async def test_client_that_goes_is_noticed(pieces: list[bytes]) -> None:
    with pytest.raises(ClientGone):
        await body_of(RawClient(pieces, disconnects=True))


async def test_refusal_goes_out_at_once_and_the_rest_is_dropped() -> None:
    client = RawClient([b"x" * 10] * 5)
    await exchange(client, (b"content-length", b"50")).answer(401, b"{}")
    assert (client.n_received_at_start, client.status, client.body) == (0, 401, b"{}")
    assert (client.pieces, client.is_whole) == ([], True)
    assert b"connection" not in client.headers


async def test_refusal_of_a_long_body_closes_the_connection_and_drops_a_mebibyte_at_most() -> None:
    client = RawClient([b"x" * 100_000] * 40)
    await exchange(client, (b"content-length", b"4000000")).answer(401, b"{}")
    assert client.headers[b"connection"] == b"close"
    assert 0 < len(client.pieces) < 40
    assert client.is_whole


async def test_refusal_waits_a_second_at_most_for_a_body_that_does_not_come() -> None:
    client = RawClient([b"x"], is_endless=True)
    began = time.perf_counter()
    await exchange(client, (b"content-length", b"50")).answer(401, b"{}")
    assert 0.5 < time.perf_counter() - began < 2.5
    assert client.is_whole


@pytest.mark.parametrize("pieces", [[b"x" * (MAX + 1)], [b"x" * MAX, b"x"]], ids=["in one piece", "in two"])
async def test_refusal_of_a_body_that_has_come_whole_waits_for_nothing(pieces: list[bytes]) -> None:
    client = RawClient(list(pieces))
    asked = exchange(client, (b"transfer-encoding", b"chunked"))
    with pytest.raises(PayloadTooLarge):
        await asked.body(MAX, Deadline.after(5))
    began = time.perf_counter()
    await asked.answer(413, b"{}")
    assert time.perf_counter() - began < 0.5
    assert client.is_whole


async def test_answer_carries_the_request_id_and_what_keeps_it_from_caches() -> None:
    client = RawClient([b""])
    await exchange(client, (b"x-request-id", b"abc")).answer(200, b"{}", [(b"retry-after", b"1")])
    assert client.headers[b"x-request-id"] == b"abc"
    assert client.headers[b"cache-control"] == b"no-store"
    assert client.headers[b"x-content-type-options"] == b"nosniff"
    assert client.headers[b"retry-after"] == b"1"


@pytest.mark.parametrize(
    ("header", "length"),
    [(None, None), (b"0", 0), (b"12", 12), (b"", None), (b"-1", None), (b"9" * 19, None), (b"1 ", None), (b"\xb2", None)],
)  # fmt: skip
def test_length_is_a_number_or_none(header: bytes | None, length: int | None) -> None:
    assert length_of(header) == length


@settings(max_examples=60)
@given(content=st.binary(max_size=MAX + 50), cuts=st.lists(st.integers(0, 1_100), max_size=4), packed=st.booleans())
async def test_body_comes_out_as_it_went_in_or_is_too_large(*, content: bytes, cuts: list[int], packed: bool) -> None:
    sent = gzip.compress(content) if packed else content
    places = [0, *sorted(min(cut, len(sent)) for cut in cuts), len(sent)]
    pieces = [sent[a:b] for a, b in pairwise(places)]
    headers = [GZIP] if packed else []
    if len(content) <= MAX and len(sent) <= MAX:
        assert await body_of(RawClient(pieces), *headers) == content
    else:
        with pytest.raises(PayloadTooLarge):
            await body_of(RawClient(pieces), *headers)
