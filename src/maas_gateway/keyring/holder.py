"""The root-key holder: the only one who sees a root key, and wraps the other keys with it.

Rules: a holder makes, uses and destroys keys and knows nothing of their life (pending, primary,
enabled, disabled, destroyed), which the root ring keeps; what names a key is stored beside the
ring's version and is no secret; making and destroying may be repeated, so that a killed act can be
taken up again.
"""

from collections.abc import Mapping
from typing import Protocol

from maas_gateway.crypto.key_material import KeyMaterial

Reference = Mapping[str, str]
"""What names one root key at its holder; no secret."""


class RootKeyHolder(Protocol):
    """Where root keys live."""

    @property
    def kind(self) -> str:
        """The holder's name in settings and in the root ring: `file`, `passphrase`, `kms`, `transit` or `pkcs11`."""
        ...

    async def create(self, name: str) -> Reference:
        """Make a root key and return what names it; the same name again returns the same key.

        Args:
            name: unique to this deployment and version: `[a-z0-9-]{1,64}`.

        Raises:
            KeyHolderUnavailable: the holder does not answer, or refuses.
            Conflict: the holder can make no other key than the one it has.
        """
        ...

    async def wrap(self, reference: Reference, key: KeyMaterial, associated_data: bytes) -> bytes:
        """Return `key`, 32 bytes, wrapped under that root key and bound to `associated_data`.

        Raises:
            KeyHolderUnavailable: the holder does not answer, or refuses.
        """
        ...

    async def unwrap(self, reference: Reference, wrapped: bytes, associated_data: bytes) -> KeyMaterial:
        """Return the key that `wrapped` holds.

        Raises:
            CiphertextRejected: it was altered or moved, or that root key never wrapped it.
            KeyHolderUnavailable: the holder does not answer, has not got the key or has it disabled.
        """
        ...

    async def destroy(self, reference: Reference) -> None:
        """Destroy that root key as far as the holder can; one that is gone is left gone.

        Raises:
            KeyHolderUnavailable: the holder does not answer, or refuses.
        """
        ...

    async def close(self) -> None:
        """Let go of connections and of key bytes."""
        ...
