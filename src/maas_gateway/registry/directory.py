"""Blobs in a directory: the embedded default.

Rules: a blob is written beside its place, synced, renamed into it, and the directory synced, so
that a name is either whole or absent; names are lower-case hexadecimal and '-' only, spread over
256 folders by their first two digits.
"""

import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from maas_gateway.crypto.chunked import ByteSource
from maas_gateway.errors import CiphertextRejected
from maas_gateway.files import sync_directory

_NAME = re.compile(r"[0-9a-f-]{8,64}", re.ASCII)
_UNFINISHED = ".new"


class _OpenFile:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size_bytes = os.fstat(descriptor).st_size

    def read_into(self, offset: int, buffer: memoryview) -> int:
        return os.preadv(self._descriptor, [buffer], offset)


class DirectoryBlobs:
    """Blobs as files of one directory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o700)

    def write(self, name: str, chunks: Iterable[bytes]) -> int:
        """Store a new blob, all of it or nothing; return its size in bytes."""
        path = self._path(name)
        path.parent.mkdir(exist_ok=True, mode=0o700)
        beside = path.with_name(f"{name}.{secrets.token_hex(4)}{_UNFINISHED}")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123  a descriptor has no path
                size = sum(_write_all(descriptor, chunk) for chunk in chunks)
                os.fsync(file.fileno())
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)
        return size

    @contextmanager
    def open(self, name: str) -> Iterator[ByteSource]:
        """Open a blob for random access."""
        try:
            descriptor = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as cause:
            raise CiphertextRejected("a sealed artifact is missing from the blob store") from cause
        try:
            yield _OpenFile(descriptor)
        finally:
            os.close(descriptor)

    def delete(self, name: str) -> None:
        """Delete a blob; none of that name is no error."""
        self._path(name).unlink(missing_ok=True)

    def older_than(self, age_s: float) -> Iterator[str]:
        """Return names stored longer ago than that; half-written files of that age are deleted on the way."""
        limit = time.time() - age_s  # noqa: TID251  compared with the file system's own times
        for path in self._root.glob("??/*"):
            if path.stat().st_mtime > limit:
                continue
            if path.name.endswith(_UNFINISHED):
                path.unlink(missing_ok=True)
            else:
                yield path.name

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError("a blob's name is hexadecimal")
        return self._root / name[:2] / name


def _write_all(descriptor: int, chunk: bytes) -> int:
    view = memoryview(chunk)
    written = 0
    while written < len(view):
        written += os.write(descriptor, view[written:])
    return written
