"""Where sealed bytes lie: the Protocol that every blob store fulfils. Its calls block; they run in threads."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from maas_gateway.crypto.chunked import ByteSource


class Blobs(Protocol):
    """Named immutable byte strings."""

    def write(self, name: str, chunks: Iterable[bytes]) -> int:
        """Store a new blob, all of it or nothing; return its size in bytes."""
        ...

    def open(self, name: str) -> AbstractContextManager[ByteSource]:
        """Open a blob for random access.

        Raises:
            CiphertextRejected: there is none of that name.
        """
        ...

    def delete(self, name: str) -> None:
        """Delete a blob; none of that name is no error."""
        ...

    def older_than(self, age_s: float) -> Iterator[str]:
        """Return the names of blobs, whole or half-written, stored longer ago than that."""
        ...
