"""Frames: what is packed is unpacked, and nothing else is."""

import pytest

from maas_gateway.confinement.frames import (
    MAX_FRAME_BYTES,
    PREFIX,
    FrameKind,
    FrameRejected,
    pack,
    pack_json,
    split,
    unpack_json,
    unpack_prefix,
)


def test_frame_says_its_kind_and_length() -> None:
    frame = pack(FrameKind.DATA, b"abc")
    assert unpack_prefix(frame[: PREFIX.size]) == (FrameKind.DATA, 3)
    assert frame[PREFIX.size :] == b"abc"


def test_json_frame_is_read_as_it_was_written() -> None:
    assert unpack_json(pack_json(FrameKind.PROGRESS, {"é": [1, None]})[PREFIX.size :]) == {"é": [1, None]}


@pytest.mark.parametrize(
    "prefix",
    [
        pytest.param(PREFIX.pack(0, 1), id="kind 0 does not exist"),
        pytest.param(PREFIX.pack(99, 1), id="kind 99 does not exist"),
        pytest.param(PREFIX.pack(FrameKind.DATA, MAX_FRAME_BYTES + 1), id="one byte too long"),
    ],
)
def test_prefix_is_refused(prefix: bytes) -> None:
    with pytest.raises(FrameRejected):
        unpack_prefix(prefix)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b'{"a":', id="half an object"),
        pytest.param(b"\xff", id="no UTF-8"),
        pytest.param(b'{"a":' + b"[" * 500_000, id="deeper than the parser goes"),
    ],
)
def test_json_is_refused(payload: bytes) -> None:
    with pytest.raises(FrameRejected):
        unpack_json(payload)


def test_split_gives_pieces_that_fit_and_lose_nothing() -> None:
    pieces = list(split(bytes(2 * MAX_FRAME_BYTES + 1)))
    assert [len(piece) for piece in pieces] == [MAX_FRAME_BYTES, MAX_FRAME_BYTES, 1]
    assert not list(split(b""))


def test_pack_refuses_what_does_not_fit() -> None:
    with pytest.raises(FrameRejected):
        pack(FrameKind.DATA, bytes(MAX_FRAME_BYTES + 1))
