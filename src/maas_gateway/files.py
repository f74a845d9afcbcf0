"""Files of this machine: what makes a new name last, and what only this user may read."""

import os
import stat
from pathlib import Path
from typing import Final

from maas_gateway.errors import Misconfigured

_READABLE_BY_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def sync_directory(folder: Path) -> None:
    """Have the names in a folder survive a power cut; a file's own bytes are synced before it gets its name.

    Raises:
        OSError: the folder cannot be opened, or the disk refuses.

    Source: fsync(2), "does not necessarily ensure that the entry in the directory … has also reached disk".
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_private(path: Path, *, called: str) -> bytes:
    """Return the content of a file that nobody else may read.

    Args:
        path: the file.
        called: what it is, in errors: `root-key file`.

    Raises:
        Misconfigured: it is missing, unreadable, or readable by others.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & _READABLE_BY_OTHERS:
                raise Misconfigured(f"the {called} {path} can be read by others; run: chmod 600 {path}")
            return file.read()
    except OSError as cause:
        raise Misconfigured(f"the {called} {path} cannot be read: {cause.strerror}") from cause
