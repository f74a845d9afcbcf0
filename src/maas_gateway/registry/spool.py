"""An upload, or what became of it, while it is looked at: sealed, nameless, gone with the process.

Rules: what arrives is sealed under a key that lives only in this process's memory and written to a
file that has no name, so that neither a crash nor a thief of the disk leaves plaintext; it can be
read at any offset once it is whole.
"""

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import BinaryIO, Self, cast

from maas_gateway.crypto.chunked import SEGMENT_BYTES, StreamOpener, StreamSealer
from maas_gateway.crypto.envelope import DataKey
from maas_gateway.errors import PayloadTooLarge

_LABEL = b"mgw1 spool"


class Spool:
    """One upload.

    Args:
        folder: where the nameless file is made.
        max_bytes: the largest upload accepted.

    Attributes:
        size_bytes: plaintext bytes so far.
    """

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = cast("BinaryIO", tempfile.TemporaryFile(dir=folder, buffering=0))  # noqa: SIM115  closed by close()
        self._key = DataKey.generate().derive(_LABEL, b"")
        self._sealer = StreamSealer(self._key, _LABEL)
        self._digest = hashlib.sha256()
        self._max_bytes = max_bytes
        self._pending = bytearray()
        self._opener: StreamOpener | None = None
        self.size_bytes = 0

    async def take(self, chunks: AsyncIterator[bytes]) -> None:
        """Take the whole upload.

        Raises:
            PayloadTooLarge: there is more than `max_bytes`.
        """
        async for chunk in chunks:
            await self.add(chunk)
        await self.finish()

    async def add(self, chunk: bytes) -> None:
        """Take a piece, of any size.

        Raises:
            PayloadTooLarge: with it there is more than `max_bytes`.
        """
        self._pending += chunk
        self.size_bytes += len(chunk)
        if self.size_bytes > self._max_bytes:
            raise PayloadTooLarge(f"the model is larger than the {self._max_bytes} bytes that are accepted")
        if len(self._pending) >= SEGMENT_BYTES:
            data = bytes(self._pending)
            self._pending.clear()
            await asyncio.to_thread(self._put, data)

    async def finish(self) -> None:
        """Know that it is whole; it can be read from then on."""
        await asyncio.to_thread(self._finish, bytes(self._pending))
        self._pending.clear()

    @property
    def digest(self) -> bytes:
        """SHA-256 of what was taken, 32 bytes."""
        return self._digest.digest()

    def read_at(self, offset: int, n_bytes: int) -> bytes:
        """Return up to `n_bytes` of plaintext at `offset`; fewer at the end only.

        Raises:
            CiphertextRejected: the spool was altered on the disk.
        """
        if self._opener is None:
            raise ValueError("the upload is not whole yet")
        return self._opener.read_at(offset, max(0, min(n_bytes, self.size_bytes - offset)))

    def chunks(self) -> Iterator[bytes]:
        """Return the plaintext from the start, in segments."""
        for offset in range(0, self.size_bytes, SEGMENT_BYTES):
            yield self.read_at(offset, SEGMENT_BYTES)

    def part(self, offset: int, n_bytes: int) -> "Part":
        """Return some of it, to be read like a file of its own.

        Raises:
            ValueError: there is not that much of it.
        """
        if not 0 <= offset <= offset + n_bytes <= self.size_bytes:
            raise ValueError("the part does not lie within the upload")
        return Part(self, offset, n_bytes)

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _put(self, data: bytes) -> None:
        self._digest.update(data)
        self._write(self._sealer.update(data))

    def _finish(self, data: bytes) -> None:
        self._put(data)
        self._write(self._sealer.finish())
        self._opener = StreamOpener(self._key, _LABEL, _SpoolFile(self._file))

    def _write(self, sealed: bytes) -> None:
        view = memoryview(sealed)
        while view:
            view = view[self._file.write(view) :]


class Part:
    """Some of a spool.

    Attributes:
        size_bytes: how much.
    """

    def __init__(self, spool: Spool, offset: int, size_bytes: int) -> None:
        self._spool = spool
        self._offset = offset
        self.size_bytes = size_bytes

    def read_at(self, offset: int, n_bytes: int) -> bytes:
        """Return up to `n_bytes` of plaintext at `offset`; fewer at the end only.

        Raises:
            CiphertextRejected: the spool was altered on the disk.
        """
        return self._spool.read_at(self._offset + offset, max(0, min(n_bytes, self.size_bytes - offset)))

    def chunks(self) -> Iterator[bytes]:
        """Return the plaintext from the start, in pieces of at most a segment."""
        for offset in range(0, self.size_bytes, SEGMENT_BYTES):
            yield self.read_at(offset, SEGMENT_BYTES)


class _SpoolFile:
    def __init__(self, file: BinaryIO) -> None:
        self._descriptor = file.fileno()
        self.size_bytes = os.fstat(self._descriptor).st_size

    def read_into(self, offset: int, buffer: memoryview) -> int:
        return os.preadv(self._descriptor, [buffer], offset)
