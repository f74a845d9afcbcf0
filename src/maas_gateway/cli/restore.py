"""`database restore`: a backup into a place without rows.

Rules: what is restored is read to its end first and goes into databases without rows, each as a whole;
what holds exactly the backup's rows already counts as restored, and a blob that is there already must
be the same, so a restore that was killed is run again. The order is keys, blobs, main, as things are
made: until main's rows are there, all in one transaction, the rest is litter that no row names.
"""

import asyncio
import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import typer

from maas_gateway.cli.backup import FILES, INDEX, MANIFEST, bars, counted, digested, opened, told
from maas_gateway.cli.configuration import configured
from maas_gateway.crypto.chunked import ByteSource
from maas_gateway.database.dump import Standing, Tell, check_dump, load, snapshot
from maas_gateway.database.lines import Written, check_lines, read_lines
from maas_gateway.database.migrations import is_current, migrate
from maas_gateway.errors import CiphertextRejected, IntegrityFailure, Misconfigured, NotFound
from maas_gateway.holders import root_key
from maas_gateway.registry.blobs import Blobs
from maas_gateway.registry.directory import DirectoryBlobs
from maas_gateway.settings import Settings

_ORDER: Final = ("keys", "blobs", "main")


def run_restore(config: Path | None, options: Mapping[str, Any], source: Path, only: Collection[str] | None) -> None:
    """Restore a backup into a place without rows; no gateway may be serving it.

    Args:
        config: the configuration's file.
        options: of the command line.
        source: the backup.
        only: the parts to restore; all that the backup holds by default.

    Raises:
        NotFound: there is no such backup, or a part is not in it.
        IntegrityFailure: the backup is cut, altered, or was not finished.
        Misconfigured: it is of another schema, or the place is not empty.
        Unavailable: a database does not answer.
    """
    settings = configured(config, options)
    with told(source, os.EX_IOERR):
        parts = _checked(source, only)
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        missing = asyncio.run(_missing(settings, source, parts))
        with bars() as begin:
            for part in _ORDER:
                if part == "blobs" and part in parts:
                    blobs = DirectoryBlobs(settings.data_dir / "blobs")
                    _copy(source / FILES[part], blobs, begin("Restoring blobs", parts[part].n_rows))
                elif part in missing:
                    tell = begin(f"Restoring {part}", parts[part].n_rows)
                    asyncio.run(_load(settings, part, source / FILES[part], tell))
    for part, written in parts.items():
        typer.echo(f"{part}: {counted(part, written)} are there.")
    if len(parts) < len(FILES):
        typer.echo("Restore the other parts too before a gateway starts: what no model names, it clears away,")
        typer.echo("and what it makes anew in an empty database keeps a backup out.")
    typer.echo(
        f"The root key must be the one that it was; a new one opens nothing of this. It is {root_key(settings)}."
    )
    typer.echo("Next: maas-gateway doctor, then maas-gateway serve")


def _checked(source: Path, only: Collection[str] | None) -> dict[str, Written]:
    """Read the parts to be restored to their ends, the blobs aside: of those, whether they are there and how long."""
    named = dict.fromkeys(only) if only else _manifest(source)
    parts = {}
    for part in (part for part in FILES if part in named):
        path = source / FILES[part]
        if not path.is_file():
            raise NotFound(
                f"{source} has no {part}/: put it back beside the others, or say with --only what to restore"
            )
        parts[part] = check_dump(path, part) if part != "blobs" else _checked_blobs(path)
        if named[part] not in {None, parts[part].sha256}:
            raise IntegrityFailure(f"{path} is of another backup than {source / MANIFEST}")
    return parts


def _manifest(source: Path) -> Mapping[str, str]:
    """Return the parts of a finished backup and the SHA-256 of each one's file."""
    try:
        manifest = json.loads((source / MANIFEST).read_bytes())
        return {part: said["sha256"] for part, said in manifest["parts"].items()}
    except FileNotFoundError:
        raise NotFound(f"there is no finished backup at {source}: it has no {MANIFEST}") from None
    except (ValueError, TypeError, LookupError, AttributeError) as cause:
        raise IntegrityFailure(f"{source / MANIFEST} is not a manifest of maas-gateway") from cause


def _checked_blobs(index: Path) -> Written:
    written, source = check_lines(index, "blobs"), DirectoryBlobs(index.parent)
    for name, n_bytes, _ in _entries(index):
        with source.open(name) as blob:
            if blob.size_bytes != n_bytes:
                raise IntegrityFailure(f"the blob {name} of the backup is cut")
    return written


async def _missing(settings: Settings, source: Path, parts: Collection[str]) -> list[str]:
    """Return the databases that lack their rows.

    Raises:
        Misconfigured: one has other rows than the backup's.
    """
    missing = []
    async with opened(settings) as databases:
        for name in set(parts) & set(databases):
            await is_current(databases[name], name)  # says why, if it cannot be opened
            async with snapshot(databases[name], name) as moment:
                standing = await moment.standing(source / FILES[name])
            if standing is Standing.OTHER:
                raise Misconfigured(
                    f"the {name} database is not empty, and a backup goes into an empty one; nothing was changed"
                )
            if standing is Standing.EMPTY:
                missing.append(name)
    return missing


async def _load(settings: Settings, name: str, path: Path, tell: Tell) -> None:
    async with opened(settings) as databases:
        await migrate(databases[name], name)
        await load(databases[name], name, path, tell)


def _copy(index: Path, blobs: Blobs, tell: Tell) -> None:
    """Copy the blobs of a backup into a blob store.

    Raises:
        IntegrityFailure: a blob is not what the index says, here or there.
    """
    source = DirectoryBlobs(index.parent)
    for name, _, sha256 in _entries(index):
        if not _is_there(blobs, name, sha256):
            with source.open(name) as blob:
                blobs.write(name, _verified(blob, sha256, f"the blob {name} of the backup is not what was copied"))
        tell(1)


def _is_there(blobs: Blobs, name: str, sha256: str) -> bool:
    otherwise = f"a blob {name} is there already, and is not the backup's; see which is right"
    try:
        with blobs.open(name) as blob:
            for _ in _verified(blob, sha256, otherwise):
                pass
    except CiphertextRejected:
        return False
    return True


def _verified(blob: ByteSource, sha256: str, otherwise: str) -> Iterator[bytes]:
    digest = hashlib.sha256()
    yield from digested(blob, digest.update)
    if digest.hexdigest() != sha256:
        raise IntegrityFailure(otherwise)


def _entries(index: Path) -> Iterator[tuple[str, int, str]]:
    """Yield name, size and SHA-256 of every blob of a backup."""
    for line in read_lines(index):
        entry = json.loads(line)
        if entry != INDEX:
            yield entry[0], entry[1], entry[2]
