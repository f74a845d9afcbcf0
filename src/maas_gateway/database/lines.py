"""Files of JSON lines that count themselves, so that one which was cut or altered is noticed.

Layout: ASCII, one JSON value a line.

    {"format": 1, "part": …, …, "program": …, "at": …}     what the file is of, who wrote it, when
    …                                                      what it is about; a list is a row
    {"lines": 7, "sha256": "…"}                            of all lines before this one

Protects against half a file and against accidents. Does not protect against whoever can write to the
file: the last line has no key.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from maas_gateway import __version__
from maas_gateway.errors import IntegrityFailure, Misconfigured, NotFound

FORMAT: Final = 1
_MAX_HEAD_BYTES: Final = 4_096
_MAX_END_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class Written:
    """What a file of counted lines says of itself.

    Attributes:
        head: its first line.
        n_rows: how many of its lines are rows.
        n_bytes: its size.
        sha256: of all lines but the last, in hexadecimal.
    """

    head: Mapping[str, Any]
    n_rows: int
    n_bytes: int
    sha256: str


@contextmanager
def counted_lines(path: Path, part: str, *, at: datetime, **head: object) -> Iterator[Callable[[object], None]]:
    """Open a new file, mode 0600, for lines of JSON; it is ended and synced only if the block is left in peace.

    Args:
        path: the file; it must not exist.
        part: what the file is of; in its first line, like what follows.
        at: when it was made.
        head: more for the first line.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    digest, n_lines = hashlib.sha256(), 0
    with open(descriptor, "wb") as file:  # noqa: PTH123  a descriptor has no path

        def write(value: object) -> None:
            nonlocal n_lines
            line = line_of(value)
            digest.update(line)
            n_lines += 1
            file.write(line)

        write({"format": FORMAT, "part": part, **head, "program": __version__, "at": at.isoformat()})
        yield write
        file.write(line_of({"lines": n_lines, "sha256": digest.hexdigest()}))
        file.flush()
        os.fsync(descriptor)


def check_lines(path: Path, part: str) -> Written:
    """Read a file of counted lines to its end; return what it says of itself.

    Raises:
        NotFound: there is no such file.
        IntegrityFailure: it is cut, altered, or of another part.
        Misconfigured: it is of another format than this program's.
    """
    head = _checked_head(path, part)
    n_rows = sum(line.startswith(b"[") for line in read_lines(path))
    with path.open("rb") as file:
        n_bytes = file.seek(0, os.SEEK_END)
        file.seek(max(0, n_bytes - _MAX_END_BYTES))
        end = json.loads(file.read().splitlines()[-1])
    return Written(head, n_rows, n_bytes, end["sha256"])


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield every line but the first and the last.

    Raises:
        IntegrityFailure: at the end, if it is not what was counted; what was yielded is then worth nothing.
    """
    digest, n_lines = hashlib.sha256(), 0
    with path.open("rb") as file:
        held = file.readline()
        for line in file:
            digest.update(held)
            if n_lines:
                yield held
            n_lines += 1
            held = line
    if held != line_of({"lines": n_lines, "sha256": digest.hexdigest()}):
        raise IntegrityFailure(f"{path} is cut or altered: its last line does not count the others")


def line_of(value: object) -> bytes:
    """Return the one line that a value is written as."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _checked_head(path: Path, part: str) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            head = json.loads(file.readline(_MAX_HEAD_BYTES))
        found = (head["format"], head["part"], head["program"])
    except FileNotFoundError:
        raise NotFound(f"there is no {path}") from None
    except (ValueError, TypeError, KeyError, RecursionError) as cause:
        raise IntegrityFailure(f"{path} is no part of a backup of maas-gateway") from cause
    if found[0] != FORMAT:
        raise Misconfigured(f"{path} is of format {found[0]}; restore it with maas-gateway {found[2]}")
    if found[1] != part:
        raise IntegrityFailure(f"{path} holds '{found[1]}', not '{part}'")
    return dict(head)
