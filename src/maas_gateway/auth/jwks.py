"""The public keys that may verify a token, by `kid`, and the set that others fetch.

Rules: a key is used for ES256 only; an unknown `kid` makes the ring be read again, at the keyring's
bounded rate, before it is refused, so that a token signed by another process a moment ago is known;
a key that waits to become the primary is published already, and verifies nothing before it is.

Source: RFC 7517 section 5 (JWK Set); RFC 7638 (thumbprint as `kid`).
"""

from collections.abc import Mapping
from typing import Any, Final

from jose import jwk
from jose.backends.base import Key

from maas_gateway.clock import Clock
from maas_gateway.errors import TokenInvalid
from maas_gateway.identifiers import PLATFORM
from maas_gateway.keyring.key import KeyState, KeyVersion, Purpose
from maas_gateway.keyring.keyring import Keyring

ALGORITHM: Final = "ES256"


class JWKSet:
    """The published keys of `token-signing`."""

    def __init__(self, keyring: Keyring, clock: Clock) -> None:
        self._keyring = keyring
        self._clock = clock
        self._keys: Mapping[str, Key] = {}
        self._of: tuple[KeyVersion, ...] | None = None

    async def key(self, kid: str) -> Key:
        """Return the key of that id.

        Raises:
            TokenInvalid: none that may still verify has it.
        """
        keys = self._constructed(await self._published())
        if kid not in keys:
            keys = self._constructed(await self._published(asked_at_s=self._clock.monotonic_s()))
        if kid not in keys:
            raise TokenInvalid("the token's key is unknown or retired")
        return keys[kid]

    async def key_ids(self) -> frozenset[str]:
        """Return the id of every key that may still verify, as stored now."""
        published = await self._published(asked_at_s=self._clock.monotonic_s())
        return frozenset(version.public["kid"] for version in published if version.public is not None)

    async def document(self) -> dict[str, Any]:
        """Return the JWK Set: every key that may still verify, and the pending one."""
        return {"keys": [dict(version.public or {}) for version in await self._published()]}

    async def _published(self, *, asked_at_s: float | None = None) -> tuple[KeyVersion, ...]:
        return await self._keyring.published(PLATFORM, Purpose.TOKEN_SIGNING, asked_at_s=asked_at_s)

    def _constructed(self, published: tuple[KeyVersion, ...]) -> Mapping[str, Key]:
        if published != self._of:
            active = [version for version in published if version.state is not KeyState.PENDING]
            publics = [version.public for version in active if version.public is not None]
            self._keys = {public["kid"]: jwk.construct(dict(public), ALGORITHM) for public in publics}
            self._of = published
        return self._keys
