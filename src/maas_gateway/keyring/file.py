"""A root-key holder that is a file: the embedded default.

Layout: JSON, `{"format": 1, "versions": {"<n>": {"state", "key" (base64, absent once destroyed),
"created_at", "changed_at"}}}`, mode 0600, outside the database.

Rules: the file is replaced whole (written beside, synced, renamed, the directory synced); changes of
several processes queue on a lock file; a file that others can read is refused; it is read again
before an unknown version is refused.

Protects against a stolen database, backup or blob store. Does not protect against whoever can read
this user's files, nor against root.
"""

import asyncio
import base64
import fcntl
import json
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from maas_gateway.clock import Clock
from maas_gateway.crypto.aead import open_sealed, seal
from maas_gateway.crypto.key_material import KeyMaterial
from maas_gateway.errors import CiphertextRejected, Conflict, KeyHolderUnavailable, KeyNotFound, Misconfigured
from maas_gateway.identifiers import PLATFORM
from maas_gateway.keyring.key import KeyState, KeyVersion, Purpose

_FORMAT = 1
_READABLE_BY_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class _Held:
    version: KeyVersion
    key: KeyMaterial | None


_Keyset = dict[int, _Held]


class FileHolder:
    """The root key's versions in one file.

    Args:
        path: the keyset file.
        clock: what time it is.

    Raises:
        Misconfigured: the file is missing, unreadable, malformed, or readable by others.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._held = _read(path)

    @classmethod
    def create(cls, path: Path, clock: Clock) -> bool:
        """Make a keyset with one version, unless there is one; return whether it was made."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(path):
            if path.exists():
                return False
            first = KeyVersion(PLATFORM, Purpose.ROOT, 1, KeyState.PRIMARY, 0, clock.now(), clock.now())
            _write(path, {1: _Held(first, KeyMaterial.generate())})
        return True

    async def wrap(self, key: KeyMaterial, associated_data: bytes) -> tuple[int, bytes]:
        """Wrap under the primary, as the file says it now."""
        await self._reread()
        primary = next(n for n, held in self._held.items() if held.version.state is KeyState.PRIMARY)
        return primary, seal(self._key(primary), key.expose(), associated_data)

    async def unwrap(self, version: int, wrapped: bytes, associated_data: bytes) -> KeyMaterial:
        """Unwrap; the file is read again before an unknown version is refused."""
        if version not in self._held or not self._held[version].version.state.opens:
            await self._reread()
        return KeyMaterial.from_bytes(open_sealed(self._key(version), wrapped, associated_data))

    async def versions(self) -> tuple[KeyVersion, ...]:
        """Return all versions by number, as the file says them now."""
        await self._reread()
        return tuple(held.version for _, held in sorted(self._held.items()))

    async def add_version(self) -> int:
        """Make a new version, pending, unless one is."""

        def add(keyset: _Keyset) -> None:
            if not any(held.version.state is KeyState.PENDING for held in keyset.values()):
                now = self._clock.now()
                number = max(keyset) + 1
                version = KeyVersion(PLATFORM, Purpose.ROOT, number, KeyState.PENDING, 0, now, now)
                keyset[number] = _Held(version, KeyMaterial.generate())

        await self._change(add)
        return next(n for n, held in self._held.items() if held.version.state is KeyState.PENDING)

    async def move(self, version: int, state: KeyState) -> None:
        """Change a version's state; destroying drops its bytes from the file."""

        def change(keyset: _Keyset) -> None:
            held = keyset.get(version)
            if held is None:
                raise KeyNotFound(f"keyring 'root' has no version {version}")
            if held.version.state is state:
                return
            if held.version.state is KeyState.PRIMARY:
                raise Conflict("the primary gives way only to a new one: rotate")
            held.version.check_move(state)
            now = self._clock.now()
            if state is KeyState.PRIMARY:
                for number, other in keyset.items():
                    if other.version.state is KeyState.PRIMARY:
                        demoted = replace(other.version, state=KeyState.ENABLED, changed_at=now)
                        keyset[number] = replace(other, version=demoted)
            key = None if state is KeyState.DESTROYED else held.key
            keyset[version] = _Held(replace(held.version, state=state, changed_at=now), key)

        await self._change(change)

    def _key(self, version: int) -> KeyMaterial:
        held = self._held.get(version)
        if held is None or held.key is None or not held.version.state.opens:
            raise CiphertextRejected(f"version {version} of the root key does not open anything here")
        return held.key

    async def _reread(self) -> None:
        try:
            self._held = await asyncio.to_thread(_read, self._path)
        except Misconfigured as cause:
            raise KeyHolderUnavailable("the root-key file cannot be read now", retry_after_s=5) from cause

    async def _change(self, change: Callable[[_Keyset], None]) -> None:
        def work() -> _Keyset:
            with _locked(self._path):
                keyset = _read(self._path)
                change(keyset)
                _write(self._path, keyset)
                return keyset

        self._held = await asyncio.to_thread(work)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read(path: Path) -> _Keyset:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & _READABLE_BY_OTHERS:
                raise Misconfigured(f"the root-key file {path} can be read by others; run: chmod 600 {path}")
            content = json.load(file)
        if content["format"] != _FORMAT:
            raise Misconfigured(
                f"the root-key file {path} has format {content['format']}, which this version cannot read"
            )
        keyset = {int(number): _held(int(number), entry) for number, entry in content["versions"].items()}
    except OSError as cause:
        raise Misconfigured(f"the root-key file {path} cannot be read: {cause.strerror}") from cause
    except (ValueError, KeyError, TypeError, AttributeError):
        # The cause is not chained: its text could quote the file.
        raise Misconfigured(f"the root-key file {path} is not a keyset of maas-gateway") from None
    if sum(held.version.state is KeyState.PRIMARY for held in keyset.values()) != 1:
        raise Misconfigured(f"the root-key file {path} does not have exactly one primary version")
    return keyset


def _held(number: int, entry: dict[str, Any]) -> _Held:
    version = KeyVersion(
        tenant=PLATFORM,
        purpose=Purpose.ROOT,
        version=number,
        state=KeyState(entry["state"]),
        root_version=0,
        created_at=datetime.fromisoformat(entry["created_at"]),
        changed_at=datetime.fromisoformat(entry["changed_at"]),
    )
    key = entry.get("key")
    return _Held(version, None if key is None else KeyMaterial.from_bytes(base64.b64decode(key, validate=True)))


def _write(path: Path, keyset: _Keyset) -> None:
    versions: dict[str, dict[str, str]] = {}
    for number, held in sorted(keyset.items()):
        entry = {
            "state": held.version.state.value,
            "created_at": held.version.created_at.isoformat(),
            "changed_at": held.version.changed_at.isoformat(),
        }
        if held.key is not None:
            entry["key"] = base64.b64encode(held.key.expose()).decode()
        versions[str(number)] = entry
    beside = path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123  a descriptor has no path
        file.write(json.dumps({"format": _FORMAT, "versions": versions}, indent=1).encode())
        file.flush()
        os.fsync(descriptor)
    beside.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
