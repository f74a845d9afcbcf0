"""A model on this machine: a file, or a SavedModel's folder as if it were packed; read at any offset, never copied to a disk."""

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from maas_gateway.errors import InvalidRequest
from maas_gateway.scanning.formats import FORMATS, sniff

_CHUNK_BYTES: Final = 1 << 18
_EPOCH: Final = 0


class ModelFile:
    """A model to be looked at or sent; a scanner's `Source`.

    Args:
        path: a file, or a folder, which is packed into memory: the same folder gives the same bytes each time.

    Attributes:
        name: what it is called.
        size_bytes: its length, packed if it is a folder.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name or str(path)
        self._packed = _packed(path) if path.is_dir() else None
        self._file = None if self._packed is not None else path.open("rb")
        self.size_bytes = path.stat().st_size if self._packed is None else len(self._packed)

    def read_at(self, offset: int, n_bytes: int) -> bytes:
        """Return up to `n_bytes` at `offset`, fewer at the end only."""
        if self._file is None:
            return (self._packed or b"")[offset : offset + n_bytes]
        return os.pread(self._file.fileno(), n_bytes, offset)

    def chunks(self) -> Iterator[bytes]:
        """Return it from the start, piece by piece."""
        for offset in range(0, self.size_bytes, _CHUNK_BYTES):
            yield self.read_at(offset, _CHUNK_BYTES)

    def digest(self) -> bytes:
        """Return its SHA-256, 32 bytes."""
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.digest()

    def format(self, said: str | None) -> str:
        """Return the format that was said, or else the one that its content has.

        Raises:
            InvalidRequest: nothing was said, and the content is none that is taken; the sentence says what to do.
        """
        if said is not None:
            return said
        found = sniff(self)
        if found is None:
            raise InvalidRequest(f"{self.name} is of no format that is known here; say which: --format {_choice()}")
        if found.kind not in FORMATS:
            raise InvalidRequest(f"{self.name}: {found.sentence}")
        return found.kind

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


def _choice() -> str:
    return "|".join(FORMATS)


def _packed(folder: Path) -> bytes:
    """Return a folder as a tar archive in memory: files only, in order, without owners and times."""
    if not (folder / "saved_model.pb").is_file():
        raise InvalidRequest(f"{folder.name}: a folder is taken for a SavedModel, and this one has no saved_model.pb")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for file in sorted(file for file in folder.rglob("*") if file.is_file()):
            member = tarfile.TarInfo(file.relative_to(folder).as_posix())
            member.size, member.mtime = file.stat().st_size, _EPOCH
            with file.open("rb") as content:
                archive.addfile(member, content)
    return packed.getvalue()
