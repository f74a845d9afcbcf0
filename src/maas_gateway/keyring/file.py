"""A root-key holder that is a file: the embedded default.

Layout: JSON, `{"format": 2, "keys": {"<name>": {"key" (base64), "created_at"}}}`, mode 0600, outside
the databases. Format 1 kept the ring as well (`{"format": 1, "versions": {"<n>": {"state", "key",
"created_at", "changed_at"}}}`); it is read, its keys' names being the numbers, and written as format
2 at the first change, after `adoption` has put the ring into the key store.

Rules: the file is replaced whole (written beside, synced, renamed, the directory synced); changes of
several processes queue on a lock file; a file that others can read is refused; it is read again
before an unknown name is refused.

Protects against a stolen database, backup or blob store. Does not protect against whoever can read
this user's files, nor against root.
"""

import asyncio
import base64
import fcntl
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from maas_gateway.clock import Clock
from maas_gateway.crypto.aead import open_sealed, seal
from maas_gateway.crypto.key_material import KeyMaterial
from maas_gateway.errors import CiphertextRejected, KeyHolderUnavailable, Misconfigured
from maas_gateway.files import read_private, sync_directory
from maas_gateway.keyring.holder import Reference

NAME: Final = "name"
"""The one field of this holder's references."""

_FORMAT: Final = 2
_FORMAT_WITH_RING: Final = 1
_RETRY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class _Held:
    key: KeyMaterial
    created_at: str


_Keyset = dict[str, _Held]


class FileHolder:
    """Root keys in one file.

    Args:
        path: the keyset file.
        clock: what time it is.

    Raises:
        Misconfigured: the file is missing, unreadable, malformed, or readable by others.
    """

    kind: Final = "file"

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._held = _read(path)

    @staticmethod
    def make(path: Path) -> bool:
        """Make an empty keyset, unless there is one; return whether it was made."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(path):
            if path.exists():
                return False
            _write(path, {})
        return True

    async def create(self, name: str) -> Reference:
        """Make a key of that name, unless there is one."""

        def add(keyset: _Keyset) -> None:
            if name not in keyset:
                keyset[name] = _Held(KeyMaterial.generate(), self._clock.now().isoformat())

        await self._change(add)
        return {NAME: name}

    async def wrap(self, reference: Reference, key: KeyMaterial, associated_data: bytes) -> bytes:
        """Wrap under the key of that name."""
        return seal(await self._key(reference), key.expose(), associated_data)

    async def unwrap(self, reference: Reference, wrapped: bytes, associated_data: bytes) -> KeyMaterial:
        """Unwrap with the key of that name."""
        return KeyMaterial.from_bytes(open_sealed(await self._key(reference), wrapped, associated_data))

    async def destroy(self, reference: Reference) -> None:
        """Drop the key of that name from the file."""
        await self._change(lambda keyset: keyset.pop(reference[NAME], None))

    async def close(self) -> None:
        """Let go of the keys."""
        self._held = {}

    async def _key(self, reference: Reference) -> KeyMaterial:
        name = reference.get(NAME, "")
        if name not in self._held:
            try:
                self._held = await asyncio.to_thread(_read, self._path)
            except Misconfigured as cause:
                raise KeyHolderUnavailable("the root-key file cannot be read now", retry_after_s=_RETRY_S) from cause
        if name not in self._held:
            raise CiphertextRejected("the root-key file has not got that root key")
        return self._held[name].key

    async def _change(self, change: Callable[[_Keyset], object]) -> None:
        def work() -> _Keyset:
            with _locked(self._path):
                keyset = _read(self._path)
                before = dict(keyset)
                change(keyset)
                if keyset != before:
                    _write(self._path, keyset)
                return keyset

        try:
            self._held = await asyncio.to_thread(work)
        except (Misconfigured, OSError) as cause:
            raise KeyHolderUnavailable("the root-key file cannot be changed now", retry_after_s=_RETRY_S) from cause


def ring_in_file(path: Path) -> Mapping[int, Mapping[str, str]]:
    """Return what a file of format 1 says of each version, without its key; empty for a file of format 2.

    Raises:
        Misconfigured: the file cannot be read.
    """
    document = _document(path)
    if document.get("format") != _FORMAT_WITH_RING:
        return {}
    versions = document["versions"]
    return {int(n): {name: text for name, text in versions[n].items() if name != "key"} for n in versions}


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _document(path: Path) -> dict[str, Any]:
    content = read_private(path, called="root-key file")
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        # The cause is not chained: its text could quote the file.
        raise Misconfigured(_no_keyset(path))
    return document


def _read(path: Path) -> _Keyset:
    document = _document(path)
    try:
        form = int(document["format"])
        entries = document[{_FORMAT: "keys", _FORMAT_WITH_RING: "versions"}[form]]
        return {
            name: _Held(KeyMaterial.from_bytes(base64.b64decode(entry["key"], validate=True)), str(entry["created_at"]))
            for name, entry in entries.items()
            if form == _FORMAT or "key" in entry
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Misconfigured(_no_keyset(path)) from None  # the cause could quote the file


def _no_keyset(path: Path) -> str:
    return f"the root-key file {path} is not a keyset of maas-gateway"


def _write(path: Path, keyset: _Keyset) -> None:
    keys = {
        name: {"key": base64.b64encode(held.key.expose()).decode(), "created_at": held.created_at}
        for name, held in keyset.items()
    }
    beside = path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123  a descriptor has no path
        file.write(json.dumps({"format": _FORMAT, "keys": keys}, indent=1).encode())
        file.flush()
        os.fsync(descriptor)
    beside.replace(path)
    sync_directory(path.parent)
