"""The root-key holder: the only one who sees the root key, and wraps the other keys with it."""

from typing import Protocol

from maas_gateway.crypto.key_material import KeyMaterial
from maas_gateway.keyring.key import KeyState, KeyVersion


class RootKeyHolder(Protocol):
    """Where the root key lives. Its versions have the life of any other key's."""

    async def wrap(self, key: KeyMaterial, associated_data: bytes) -> tuple[int, bytes]:
        """Return the primary's version number and `key` wrapped under it.

        Raises:
            KeyHolderUnavailable: the holder does not answer.
        """
        ...

    async def unwrap(self, version: int, wrapped: bytes, associated_data: bytes) -> KeyMaterial:
        """Return the key that `wrapped` holds; re-read what the holder has before an unknown version is refused.

        Raises:
            CiphertextRejected: it was altered or moved, or the version does not open any more.
            KeyHolderUnavailable: the holder does not answer.
        """
        ...

    async def versions(self) -> tuple[KeyVersion, ...]:
        """Return all versions by number."""
        ...

    async def add_version(self) -> int:
        """Make a new version, pending, and return its number; an already pending one is returned instead."""
        ...

    async def move(self, version: int, state: KeyState) -> None:
        """Change a version's state; a new primary makes the old one enabled in the same step.

        Raises:
            KeyNotFound: there is no such version.
            IllegalTransition: its life has no such step.
        """
        ...
