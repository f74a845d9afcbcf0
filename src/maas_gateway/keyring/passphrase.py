"""A root-key holder that derives its keys from a passphrase in a file.

Rules:

- the file holds one passphrase a line: the first wraps, all of them are tried when unwrapping;
- a key's salt comes from its name, so that the same name is the same key and nothing is stored here;
- what a reference says of the derivation's cost is bounded before anything is derived;
- derivations run one after the other in one thread: each takes 128 MiB and about 0.4 s.
"""

import asyncio
import base64
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, TypeVar

from maas_gateway.crypto.aead import REJECTED, frame, open_sealed, seal
from maas_gateway.crypto.digests import sha256
from maas_gateway.crypto.key_material import KeyMaterial
from maas_gateway.crypto.passphrases import derive_key
from maas_gateway.errors import CiphertextRejected, KeyHolderUnavailable, Misconfigured
from maas_gateway.files import read_private
from maas_gateway.keyring.breaker import RETRY_S
from maas_gateway.keyring.holder import Reference

_T = TypeVar("_T")

_KDF: Final = "scrypt"
_N: Final = 1 << 17
_R: Final = 8
_P: Final = 1
_SALT_BYTES: Final = 16
_SALT_LABEL: Final = "mgw1 passphrase salt"

_MIN_N: Final = 1 << 14
_MAX_N: Final = 1 << 20
_MAX_R: Final = 32
_MAX_P: Final = 16
_MIN_N_TIMES_R: Final = 1 << 17
"""16 MiB: less would make guesses cheap."""
_MAX_N_TIMES_R: Final = 1 << 22
"""512 MiB, four times what a derivation takes today."""
_MAX_COST: Final = 1 << 23
"""Of n · r · p: about 3 s, eight times what a derivation takes today."""

_MIN_CHARACTERS: Final = 16
_MAX_CACHED: Final = 256
_NUMBER: Final = re.compile("[1-9][0-9]{0,7}")


@dataclass(frozen=True, slots=True)
class _Derivation:
    """What a reference says: how a passphrase becomes one root key."""

    salt: bytes
    n: int
    r: int
    p: int

    @classmethod
    def read(cls, reference: Reference) -> Self:
        try:
            n, r, p = (_number(reference[name]) for name in ("n", "r", "p"))
            salt = base64.b64decode(reference["salt"], validate=True)
            is_ours = reference["kdf"] == _KDF and len(salt) == _SALT_BYTES and _is_bounded(n, r, p)
        except (KeyError, ValueError, TypeError) as cause:
            raise CiphertextRejected(REJECTED) from cause
        if not is_ours:
            raise CiphertextRejected(REJECTED)
        return cls(salt, n, r, p)

    def reference(self) -> Reference:
        salt = base64.b64encode(self.salt).decode("ascii")
        return {"kdf": _KDF, "salt": salt, "n": str(self.n), "r": str(self.r), "p": str(self.p)}


class PassphraseHolder:
    """Root keys derived from the passphrases of one file, which is read again at every call.

    A passphrase is changed by writing the new one above the old one, rotating the root key and
    rewrapping; after that nothing is wrapped under the old line, and it may go.

    The salt is the first 16 bytes of SHA-256 of the framed label and name, not random. A salt must
    differ from key to key and need not be secret or unpredictable; a name holds the deployment's
    UUID and the version, so no two keys share one. In return `create` needs no memory of its own to
    be repeatable. What is given up: someone who knows the UUID could begin guessing before the
    key store is stolen; no guess gets cheaper by that.

    Protects against: reading wrapped keys out of a stolen key store without guessing the
    passphrase, each guess of which takes 128 MiB and about 0.4 s of one core; and a changed
    reference that would make this process take gigabytes or derive a key that is cheap to guess.
    Does not protect against: a passphrase that is guessed early (make it by machine:
    `openssl rand -base64 32`), whoever reads the file, nor whoever reads this process's memory.

    Args:
        path: the file, UTF-8, mode 0600; blanks around a passphrase and empty lines do not count.
        n: scrypt's cost of new keys, a power of two from 2**14 to 2**19.

    Raises:
        Misconfigured: the file is missing, unreadable, readable by others, holds no passphrase or
            one of fewer than 16 characters; or `n` is out of bounds.

    Source: RFC 7914; OWASP Password Storage Cheat Sheet, "scrypt": N = 2**17, r = 8, p = 1.
    """

    kind: Final = "passphrase"

    def __init__(self, path: Path, *, n: int = _N) -> None:
        if not _is_bounded(n, _R, _P):
            raise Misconfigured("scrypt's n is a power of two from 2**14 to 2**19")
        _read(path)
        self._path = path
        self._n = n
        self._keys: dict[tuple[_Derivation, bytes], KeyMaterial] = {}
        # One thread: it is what serialises derivations, even those that nobody waits for any more.
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="passphrase")

    async def create(self, name: str) -> Reference:
        """Return how this name's key is derived; nothing is kept here.

        Raises:
            KeyHolderUnavailable: the file cannot be read now.
        """
        await self._run(self._passphrases)
        salt = sha256(frame(_SALT_LABEL, name))[:_SALT_BYTES]
        return _Derivation(salt, self._n, _R, _P).reference()

    async def wrap(self, reference: Reference, key: KeyMaterial, associated_data: bytes) -> bytes:
        """Wrap under the key of the file's first passphrase.

        Raises:
            CiphertextRejected: the reference is none that `create` gives.
            KeyHolderUnavailable: the file cannot be read now.
        """
        derivation = _Derivation.read(reference)

        def work() -> bytes:
            return seal(self._key(derivation, self._passphrases()[0]), key.expose(), associated_data)

        return await self._run(work)

    async def unwrap(self, reference: Reference, wrapped: bytes, associated_data: bytes) -> KeyMaterial:
        """Unwrap with the key of whichever of the file's passphrases fits.

        Raises:
            CiphertextRejected: none fits, or the reference is none that `create` gives.
            KeyHolderUnavailable: the file cannot be read now.
        """
        derivation = _Derivation.read(reference)

        def work() -> KeyMaterial:
            for passphrase in self._passphrases():
                try:
                    opened = open_sealed(self._key(derivation, passphrase), wrapped, associated_data)
                except CiphertextRejected:
                    continue
                return KeyMaterial.from_bytes(opened)
            raise CiphertextRejected(REJECTED)

        return await self._run(work)

    async def destroy(self, reference: Reference) -> None:
        """Forget the derived key, which is all that can be done.

        A key that is derived from a passphrase cannot be destroyed while the passphrase is known:
        what shreds is that the rows which it wrapped are forgotten, backups included.

        Raises:
            CiphertextRejected: the reference is none that `create` gives.
        """
        derivation = _Derivation.read(reference)

        def work() -> None:
            self._keys = {known: key for known, key in self._keys.items() if known[0] != derivation}

        await self._run(work)

    async def close(self) -> None:
        """Let go of the derived keys; a later call would derive again."""
        await self._run(self._keys.clear)

    def _passphrases(self) -> tuple[bytes, ...]:
        try:
            return _read(self._path)
        except Misconfigured as cause:
            raise KeyHolderUnavailable("the passphrase file cannot be used now", retry_after_s=RETRY_S) from cause

    def _key(self, derivation: _Derivation, passphrase: bytes) -> KeyMaterial:
        # By digest rather than by line: a line's number changes when a passphrase is put on top.
        known = derivation, sha256(passphrase)
        key = self._keys.get(known)
        if key is None:
            key = derive_key(passphrase, salt=derivation.salt, n=derivation.n, r=derivation.r, p=derivation.p)
            if len(self._keys) >= _MAX_CACHED:
                self._keys.pop(next(iter(self._keys)))
            self._keys[known] = key
        return key

    async def _run(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)


def _is_bounded(n: int, r: int, p: int) -> bool:
    is_known = n.bit_count() == 1 and _MIN_N <= n <= _MAX_N and 1 <= r <= _MAX_R and 1 <= p <= _MAX_P
    return is_known and _MIN_N_TIMES_R <= n * r <= _MAX_N_TIMES_R and n * r * p <= _MAX_COST


def _number(text: str) -> int:
    # int() would read blanks, underscores and other scripts' digits too.
    if not _NUMBER.fullmatch(text):
        raise ValueError("not a number as we write it")
    return int(text)


def _read(path: Path) -> tuple[bytes, ...]:
    content = read_private(path, called="passphrase file")
    try:
        lines = [line.strip(" \t\r") for line in content.decode().split("\n")]
    except UnicodeDecodeError:
        # The cause is not chained: it holds the file's bytes.
        raise Misconfigured(f"the passphrase file {path} is no UTF-8 text") from None
    passphrases = [line for line in lines if line]
    if not passphrases:
        raise Misconfigured(f"the passphrase file {path} holds no passphrase")
    if min(map(len, passphrases)) < _MIN_CHARACTERS:
        raise Misconfigured(f"a passphrase in {path} has fewer than {_MIN_CHARACTERS} characters")
    return tuple(passphrase.encode() for passphrase in passphrases)
