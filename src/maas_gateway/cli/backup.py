"""`database backup`: the two databases and the sealed blobs, out of a place that may be serving.

Layout of a backup:

    manifest.json        what it holds, written last: without it the backup was not finished
    main/rows.ndjson     the main database          keys/rows.ndjson     the key store, see `database.dump`
    blobs/index.ndjson   size and SHA-256 of each   blobs/<2 digits>/    the sealed blobs that main's rows name

Rules: a part is whole by itself, so that the key store's can be kept elsewhere and thrown away soon;
the root key is in no part; a backup that fails leaves no part behind.

The order is main, keys, blobs. What is made commits its key first and its row in main last, so whatever
main's moment shows has its key in any later moment of the key store; taken the other way round, a model
that came between the two would be in the backup without its key. What is erased loses its key first:
taken the other way round, the erased key would be in the backup. A blob is never changed, so it may be
read last, when no transaction is open any more.

What main's moment names may yet be gone when its key or its blob is read: it was erased, or sealed anew
under another name. Then main has moved on, and the rows are read again, with the blobs that are new,
until all three fit. What is lacking twice in a row is lacking in the place itself, which is told; all
else is in the backup.
"""

import asyncio
import errno
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from maas_gateway import __version__
from maas_gateway.cli.configuration import configured
from maas_gateway.clock import SystemClock
from maas_gateway.crypto.chunked import ByteSource
from maas_gateway.database.dump import Tell, snapshot
from maas_gateway.database.engine import Database
from maas_gateway.database.lines import FORMAT, Written, check_lines, counted_lines
from maas_gateway.database.migrations import is_current
from maas_gateway.errors import CiphertextRejected, IntegrityFailure, Misconfigured
from maas_gateway.files import sync_directory
from maas_gateway.holders import root_key
from maas_gateway.keyring.store import data_keys_before
from maas_gateway.place import open_databases
from maas_gateway.registry.blobs import Blobs
from maas_gateway.registry.directory import DirectoryBlobs
from maas_gateway.registry.store import known_artifacts
from maas_gateway.settings import Settings

FILES: Final = {"main": "main/rows.ndjson", "keys": "keys/rows.ndjson", "blobs": "blobs/index.ndjson"}
"""Every part's own file, in the order of a backup."""
MANIFEST: Final = "manifest.json"
INDEX: Final = {"table": "blobs", "columns": {"name": "text", "bytes": "integer", "sha256": "text"}}
"""What heads the list of blobs."""
_CHUNK_BYTES: Final = 1 << 20
_MAX_ROUNDS: Final = 20
_PAUSE_S: Final = 0.5
_CLOCKS_DIFFER_BY: Final = timedelta(days=1)

Begin = Callable[[str, int], Tell]
"""Begins a bar for so many things; what it returns moves it on."""


@dataclass(frozen=True, slots=True)
class _Named:
    """Which artifacts there were at the moments that were read.

    Attributes:
        by_main: those that main's rows name.
        by_keys: those that have a data key; None if the key store was not read.
    """

    by_main: frozenset[str]
    by_keys: frozenset[str] | None


def run_backup(config: Path | None, options: Mapping[str, Any], to: Path, only: Collection[str] | None) -> None:
    """Back a place up; a gateway may be serving it.

    Args:
        config: the configuration's file.
        options: of the command line.
        to: a directory that does not exist yet, or is empty.
        only: the parts to back up; all by default.

    Raises:
        Misconfigured: there is no such place, or a database is not at this program's schema.
        Unavailable: a database does not answer.
        IntegrityFailure: the place itself lacks a key or a blob; all else was backed up.
    """
    settings = configured(config, options)
    parts = [part for part in FILES if part in (only or FILES)]
    if not settings.data_dir.is_dir():
        raise Misconfigured(f"there is no data directory at {settings.data_dir}")
    with told(to, os.EX_CANTCREAT):
        _make_fresh(to)
        try:
            lacking = _back_up(settings, to, parts)
        except BaseException:
            (to / MANIFEST).unlink(missing_ok=True)
            for part in parts:
                shutil.rmtree(to / part, ignore_errors=True)
            raise
    if "keys" in parts:
        typer.echo("Keep keys/ apart, and not for long: a destroyed key is gone only once no backup holds it any more.")
    typer.echo(f"The root key is in no backup. It is {root_key(settings)}.")
    if lacking:
        raise IntegrityFailure(
            f"{len(lacking)} sealed artifacts that the main database names lack their key or their blob, "
            f"{min(lacking)} for one; the backup holds everything else"
        )


def _back_up(settings: Settings, to: Path, parts: Sequence[str]) -> frozenset[str]:
    """Write the parts and the manifest; return the artifacts that the place itself has only half of."""
    at = SystemClock().now()
    for part in parts:
        (to / part).mkdir(mode=0o700)
    with bars() as begin:
        lacking = _settle(settings, to, parts, at=at, begin=begin)
    manifest: dict[str, object] = {}
    for part in parts:
        written = check_lines(to / FILES[part], part)
        numbers = {"rows": written.n_rows, "bytes": written.n_bytes, "sha256": written.sha256}
        manifest[part] = {"file": FILES[part], "schema": written.head.get("revision"), **numbers}
        typer.echo(f"{part}: {counted(part, written)} in {to / part}")
        sync_directory(to / part)
    descriptor = os.open(to / MANIFEST, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123  a descriptor has no path
        json.dump({"format": FORMAT, "program": __version__, "at": at.isoformat(), "parts": manifest}, file, indent=2)
        file.flush()
        os.fsync(descriptor)
    sync_directory(to)
    return lacking


def _settle(settings: Settings, to: Path, parts: Collection[str], *, at: datetime, begin: Begin) -> frozenset[str]:
    """Write the parts, again where main has moved on meanwhile; return what is lacking all the same."""
    copied: dict[str, tuple[int, str]] = {}
    lacking: frozenset[str] = frozenset()
    for _ in range(_MAX_ROUNDS):
        named = asyncio.run(_dump(settings, to, parts, at=at, begin=begin))
        before, lacking = lacking, frozenset()
        if "blobs" in parts:
            tell = begin("Copying blobs", len(named.by_main))
            blobs = DirectoryBlobs(settings.data_dir / "blobs")
            lacking |= _copy(blobs, to / "blobs", named.by_main, copied=copied, tell=tell)
        if named.by_keys is not None:
            lacking |= named.by_main - named.by_keys
        if lacking in {frozenset(), before}:
            break
        time.sleep(_PAUSE_S)
    if "blobs" in parts:
        with counted_lines(to / FILES["blobs"], "blobs", at=at) as write:
            write(INDEX)
            for name in sorted(copied):
                write([name, *copied[name]])
    return lacking


async def _dump(settings: Settings, to: Path, parts: Collection[str], *, at: datetime, begin: Begin) -> _Named:
    """Write those of the two databases that are asked for, in the place of what was written before."""
    by_main: frozenset[str] = frozenset()
    by_keys = None
    async with opened(settings) as databases:
        for name, database in databases.items():
            if name not in parts and not (name == "main" and "blobs" in parts):
                continue
            if not await is_current(database, name):
                raise Misconfigured(
                    f"the {name} database is not at this version's schema; run: maas-gateway database upgrade"
                )
            async with snapshot(database, name) as moment:
                if name == "main":
                    by_main = frozenset(map(str, await known_artifacts(moment.session)))
                else:
                    until = SystemClock().now() + _CLOCKS_DIFFER_BY
                    by_keys = frozenset(map(str, await data_keys_before(moment.session, until)))
                if name in parts:
                    (to / FILES[name]).unlink(missing_ok=True)
                    await moment.dump(to / FILES[name], at=at, tell=begin(f"Reading {name}", await moment.count()))
    return _Named(by_main, by_keys)


def _copy(
    blobs: Blobs, folder: Path, names: Collection[str], *, copied: dict[str, tuple[int, str]], tell: Tell
) -> frozenset[str]:
    """Have a folder hold the blobs of those names and no others; return the names of those that are not there."""
    target = DirectoryBlobs(folder)
    for name in copied.keys() - names:
        target.delete(name)
        del copied[name]
    gone = set()
    for name in sorted(names):
        if name not in copied:
            digest = hashlib.sha256()
            try:
                with blobs.open(name) as blob:
                    copied[name] = target.write(name, digested(blob, digest.update)), digest.hexdigest()
            except CiphertextRejected:
                gone.add(name)
        tell(1)
    return frozenset(gone)


def digested(blob: ByteSource, update: Callable[[bytes], None]) -> Iterator[bytes]:
    """Yield a blob piece by piece, each given to a digest's `update` first."""
    buffer, offset = memoryview(bytearray(_CHUNK_BYTES)), 0
    while n_bytes := blob.read_into(offset, buffer):
        chunk = bytes(buffer[:n_bytes])
        update(chunk)
        yield chunk
        offset += n_bytes


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Mapping[str, Database]]:
    """Open both databases, main first, and close them again."""
    databases = dict(zip(("main", "keys"), open_databases(settings), strict=True))
    try:
        yield databases
    finally:
        for database in databases.values():
            await database.close()


@contextmanager
def bars() -> Iterator[Begin]:
    """Show how far things are, where a person is looking."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:

        def begin(what: str, total: int) -> Tell:
            return partial(progress.advance, progress.add_task(what, total=total))

        yield begin


@contextmanager
def told(place: Path, code: int) -> Iterator[None]:
    """Turn what the file system refuses into a sentence and an exit code."""
    try:
        yield
    except OSError as error:
        typer.echo(f"maas-gateway: {error.filename or place}: {error.strerror}", err=True)
        sys.exit(code)


def counted(part: str, written: Written) -> str:
    """Return how much a part holds."""
    return f"{written.n_rows} {'blobs' if part == 'blobs' else 'rows'}"


def _make_fresh(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if any(folder.iterdir()):
        raise FileExistsError(
            errno.EEXIST, "a backup goes into a directory of its own, and this one is not empty", folder
        )
