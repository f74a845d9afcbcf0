"""Blobs in a directory: whole or absent, whoever is killed when."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from maas_gateway.errors import CiphertextRejected
from maas_gateway.registry.directory import DirectoryBlobs

NAME = "0f" * 16


def _read(blobs: DirectoryBlobs, name: str) -> bytes:
    with blobs.open(name) as source:
        buffer = bytearray(source.size_bytes)
        assert source.read_into(0, memoryview(buffer)) == len(buffer)
        return bytes(buffer)


def test_a_blob_comes_back_as_it_was_written(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path)
    content = [os.urandom(1_000), b"", os.urandom(70_000)]
    assert blobs.write(NAME, content) == 71_000
    assert _read(blobs, NAME) == b"".join(content)
    assert next(tmp_path.glob("??/*")).stat().st_mode & 0o777 == 0o600


def test_a_blob_whose_writing_fails_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise OSError("no space")

    blobs = DirectoryBlobs(tmp_path)
    with pytest.raises(OSError, match="no space"):
        blobs.write(NAME, broken())
    assert list(tmp_path.glob("??/*")) == []


def test_a_missing_blob_is_an_integrity_failure(tmp_path: Path) -> None:
    with pytest.raises(CiphertextRejected), DirectoryBlobs(tmp_path).open(NAME):
        pass


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "", ".", "short", "x" * 32, "0f" * 16 + "\n"])
def test_names_that_are_no_identifiers_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="hexadecimal"):
        DirectoryBlobs(tmp_path).write(name, [b"x"])


def test_deleting_twice_is_no_error(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path)
    blobs.write(NAME, [b"x"])
    blobs.delete(NAME)
    blobs.delete(NAME)
    with pytest.raises(CiphertextRejected), blobs.open(NAME):
        pass


def test_litter_is_what_is_older_and_half_written_files_go_with_it(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path)
    old, young = "0a" * 16, "0b" * 16
    blobs.write(old, [b"x"])
    blobs.write(young, [b"x"])
    half = tmp_path / "0c" / "0c0c.new"
    half.parent.mkdir()
    half.write_bytes(b"x")
    for path in (tmp_path / "0a" / old, half):
        os.utime(path, (1_000, 1_000))
    assert list(blobs.older_than(3_600)) == [old]
    assert not half.exists()
