"""Spools: what arrives is sealed at once, can be read anywhere, and leaves no name."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maas_gateway.errors import PayloadTooLarge
from maas_gateway.registry.spool import Spool


async def _pieces(content: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


@settings(max_examples=20, deadline=None)
@given(
    content=st.binary(max_size=3_000), size=st.integers(1, 4_000), offset=st.integers(0, 3_500), n=st.integers(0, 3_500)
)
def test_a_spool_reads_anywhere_as_what_was_sent(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, size: int, offset: int, n: int
) -> None:
    with Spool(tmp_path_factory.getbasetemp() / "spool", max_bytes=10_000) as spool:
        asyncio.run(spool.take(_pieces(content, size)))
        assert spool.size_bytes == len(content)
        assert spool.digest == hashlib.sha256(content).digest()
        assert spool.read_at(offset, n) == content[offset : offset + n]
        assert b"".join(spool.chunks()) == content


def test_a_spool_of_several_segments_comes_back_whole(tmp_path: Path) -> None:
    content = os.urandom(3_500_000)
    with Spool(tmp_path, max_bytes=4_000_000) as spool:
        asyncio.run(spool.take(_pieces(content, 100_000)))
        assert b"".join(spool.chunks()) == content


def test_a_spool_has_no_name_and_no_plaintext_on_the_disk(tmp_path: Path) -> None:
    canary = b"a canary of thirty-two bytes ...."
    with Spool(tmp_path, max_bytes=10_000) as spool:
        asyncio.run(spool.take(_pieces(canary * 100, 500)))
        assert list(tmp_path.iterdir()) == []
        stored = os.pread(spool._file.fileno(), 100_000, 0)
        assert len(stored) > len(canary) * 100
        assert canary not in stored


def test_a_spool_takes_no_more_than_its_bound(tmp_path: Path) -> None:
    with Spool(tmp_path, max_bytes=999) as spool, pytest.raises(PayloadTooLarge, match="999"):
        asyncio.run(spool.take(_pieces(bytes(1_000), 10)))


def test_a_spool_altered_on_the_disk_is_refused(tmp_path: Path) -> None:
    from maas_gateway.errors import CiphertextRejected

    with Spool(tmp_path, max_bytes=10_000) as spool:
        asyncio.run(spool.take(_pieces(bytes(5_000), 100)))
        (byte,) = os.pread(spool._file.fileno(), 1, 2_000)
        os.pwrite(spool._file.fileno(), bytes([byte ^ 1]), 2_000)
        with pytest.raises(CiphertextRejected):
            spool.read_at(0, 10)


def test_a_part_of_a_spool_is_read_like_a_file_of_its_own(tmp_path: Path) -> None:
    content = os.urandom(2_500_000)
    with Spool(tmp_path, max_bytes=4_000_000) as spool:
        asyncio.run(spool.take(_pieces(content, 100_000)))
        part = spool.part(1_000_000, 1_400_000)
        assert part.size_bytes == 1_400_000
        assert b"".join(part.chunks()) == content[1_000_000:2_400_000]
        assert part.read_at(1_399_990, 100) == content[2_399_990:2_400_000]
        assert part.read_at(1_400_001, 5) == b""
        assert spool.part(2_500_000, 0).read_at(0, 1) == b""
        for offset, n_bytes in ((-1, 5), (2_499_999, 2), (0, 2_500_001), (5, -1)):
            with pytest.raises(ValueError, match="within the upload"):
                spool.part(offset, n_bytes)


def test_a_spool_takes_piece_by_piece_and_is_read_once_it_is_whole(tmp_path: Path) -> None:
    async def fill(spool: Spool) -> None:
        for piece in (b"ab", b"", b"c" * 2_000_000):
            await spool.add(piece)
        with pytest.raises(ValueError, match="not whole yet"):
            spool.read_at(0, 1)
        await spool.finish()

    with Spool(tmp_path, max_bytes=3_000_000) as spool:
        asyncio.run(fill(spool))
        assert spool.read_at(0, 3) == b"abc"
        assert spool.size_bytes == 2_000_002
