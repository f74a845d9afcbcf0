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


def _opened(sealed: bytes) -> list[bytes]:
    pieces: list[bytes] = []
    StreamOpener(KEY, b"", _Source(sealed)).open_each(lambda piece: pieces.append(bytes(piece)))
    return pieces


@pytest.mark.parametrize("size", [0, 1, SEGMENT_BYTES - HEADER_BYTES - 16, SEGMENT_BYTES, 3 * SEGMENT_BYTES + 7])
def test_the_segments_together_are_what_was_sealed(size: int) -> None:
    plain = os.urandom(size)
    assert b"".join(_opened(_sealed(plain))) == plain


@pytest.mark.parametrize("n_cut", [1, 17, SEGMENT_BYTES])
def test_a_stream_that_was_cut_is_refused_at_its_end(n_cut: int) -> None:
    with pytest.raises(CiphertextRejected):
        _opened(_sealed(os.urandom(3 * SEGMENT_BYTES))[:-n_cut])


def test_nothing_of_a_segment_that_does_not_verify_is_handed_out() -> None:
    plain = os.urandom(3 * SEGMENT_BYTES)
    sealed = bytearray(_sealed(plain))
    sealed[SEGMENT_BYTES + 100] ^= 1
    pieces: list[bytes] = []
    with pytest.raises(CiphertextRejected):
        StreamOpener(KEY, b"", _Source(bytes(sealed))).open_each(lambda piece: pieces.append(bytes(piece)))
    assert len(pieces) == 1
    assert plain.startswith(pieces[0])


def test_a_segment_is_gone_when_its_taker_has_returned() -> None:
    kept: list[memoryview] = []
    StreamOpener(KEY, b"", _Source(_sealed(os.urandom(1_000)))).open_each(kept.append)
    assert not any(kept[0])
