"""A secret of 32 bytes that does not show itself by accident.

Rules: it is made from a secure random source or from exactly 32 bytes; nothing prints it, pickles
it or copies it; it is compared in constant time; only `expose` gives the bytes away.
"""

import hmac
import secrets
from typing import ClassVar, Final, NoReturn, Self, SupportsIndex, final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

KEY_BYTES: Final = 32


@final
class KeyMaterial:
    """An opaque 32-byte secret.

    Protects against: a secret in a log line, a traceback that shows values, a pickle, a deep copy of
    a structure that holds it, and timing of comparisons. Does not protect against: whoever can read
    this process's memory (Python can neither wipe nor lock `bytes`; core dumps and swap are switched
    off elsewhere), nor against a caller that passes on what `expose` returned.
    """

    __slots__ = ("_secret",)
    __hash__: ClassVar[None]  # type: ignore[assignment]  # object's is a method; a secret is no key of a dictionary

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise ValueError("a key is exactly 32 bytes")
        self._secret = bytes(secret)

    @classmethod
    def generate(cls) -> Self:
        """Return a fresh secret from the operating system's random source."""
        return cls(secrets.token_bytes(KEY_BYTES))

    @classmethod
    def from_bytes(cls, secret: bytes) -> Self:
        """Return the secret that these 32 bytes are.

        Raises:
            ValueError: there are not exactly 32 bytes.
        """
        return cls(secret)

    def expose(self) -> bytes:
        """Return the 32 bytes themselves; the one place where the secret leaves."""
        return self._secret

    def expand(self, info: bytes) -> bytes:
        """Return 32 bytes derived from this secret for one use, which `info` names.

        The secret must be uniformly random, which every `KeyMaterial` is: there is no extract step.

        Source: RFC 5869 section 2.3, with SHA-256 and L = 32.
        """
        return HKDFExpand(algorithm=SHA256(), length=KEY_BYTES, info=info).derive(self._secret)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, KeyMaterial):
            return NotImplemented
        return hmac.compare_digest(self._secret, other._secret)

    def __repr__(self) -> str:
        return "<KeyMaterial>"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("key material is neither pickled nor copied")
