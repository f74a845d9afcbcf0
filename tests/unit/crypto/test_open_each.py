"""Opening a stream segment by segment: all of it, in order, and nothing that did not verify."""

import os

import pytest

from maas_gateway.crypto.chunked import HEADER_BYTES, SEGMENT_BYTES, StreamOpener, StreamSealer
from maas_gateway.crypto.key_material import KeyMaterial
from maas_gateway.errors import CiphertextRejected

KEY = KeyMaterial.generate()


class _Source:
    def __init__(self, content: bytes) -> None:
        self.content = content
        self.size_bytes = len(content)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        piece = self.content[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        return len(piece)


def _sealed(plain: bytes) -> bytes:
    sealer = StreamSealer(KEY, b"")
    return sealer.update(plain) + sealer.finish()


def _opened(sealed: bytes, n_threads: int = 1) -> dict[int, bytes]:
    pieces: dict[int, bytes] = {}

    def take(start: int, piece: memoryview) -> None:
        pieces[start] = bytes(piece)  # of several threads each takes runs of segments

    StreamOpener(KEY, b"", _Source(sealed)).open_each(take, n_threads=n_threads)
    return pieces


@pytest.mark.parametrize("n_threads", [1, 2, 5])
@pytest.mark.parametrize(
    "size", [0, 1, SEGMENT_BYTES - HEADER_BYTES - 16, SEGMENT_BYTES, 3 * SEGMENT_BYTES + 7, 37 * SEGMENT_BYTES]
)
def test_the_segments_together_are_what_was_sealed(size: int, n_threads: int) -> None:
    plain = os.urandom(size)
    pieces = _opened(_sealed(plain), n_threads)
    assert b"".join(pieces[start] for start in sorted(pieces)) == plain
    assert all(plain[start : start + len(piece)] == piece for start, piece in pieces.items())


def test_one_thread_hands_the_segments_out_in_order() -> None:
    pieces = _opened(_sealed(os.urandom(5 * SEGMENT_BYTES)))
    assert list(pieces) == sorted(pieces)


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("n_cut", [1, 17, SEGMENT_BYTES])
def test_a_stream_that_was_cut_is_refused_at_its_end(n_cut: int, n_threads: int) -> None:
    with pytest.raises(CiphertextRejected):
        _opened(_sealed(os.urandom(3 * SEGMENT_BYTES))[:-n_cut], n_threads)


def test_nothing_of_a_segment_that_does_not_verify_is_handed_out() -> None:
    plain = os.urandom(3 * SEGMENT_BYTES)
    sealed = bytearray(_sealed(plain))
    sealed[SEGMENT_BYTES + 100] ^= 1
    pieces: list[bytes] = []
    with pytest.raises(CiphertextRejected):
        StreamOpener(KEY, b"", _Source(bytes(sealed))).open_each(lambda _start, piece: pieces.append(bytes(piece)))
    assert len(pieces) == 1
    assert plain.startswith(pieces[0])


def test_what_several_threads_have_opened_is_zeros_again_when_one_of_them_was_refused() -> None:
    plain = os.urandom(40 * SEGMENT_BYTES)
    sealed = bytearray(_sealed(plain))
    sealed[-1] ^= 1
    target = bytearray(len(plain))
    with pytest.raises(CiphertextRejected):
        StreamOpener(KEY, b"", _Source(bytes(sealed))).open_into(memoryview(target), n_threads=3)
    assert not any(target)


def test_no_thread_goes_on_when_one_of_them_was_refused() -> None:
    plain = os.urandom(100 * SEGMENT_BYTES)
    sealed = bytearray(_sealed(plain))
    sealed[100] ^= 1
    starts: list[int] = []
    with pytest.raises(CiphertextRejected):
        StreamOpener(KEY, b"", _Source(bytes(sealed))).open_each(lambda start, _: starts.append(start), n_threads=2)
    assert len(starts) < 50


@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_segment_is_gone_when_all_are_handed_out(n_threads: int) -> None:
    kept: list[memoryview] = []
    opener = StreamOpener(KEY, b"", _Source(_sealed(os.urandom(4 * SEGMENT_BYTES))))
    opener.open_each(lambda _start, piece: kept.append(piece), n_threads=n_threads)
    assert len(kept) == 5
    assert not any(any(piece) for piece in kept)
