"""The root ring: which versions there are, which holder has each, and wrapping under them.

Rules: a version's row says its state, its holder and what names it there, no secret; the row keeps a
proof, a value that only that root key opens, so that another deployment's key is noticed at the
start and not at the first loss; new things are wrapped under the primary; a holder is never called
within a transaction, so what it has wrapped is confirmed in the transaction that stores it.
"""

import uuid
from collections.abc import Mapping
from dataclasses import replace

from maas_gateway.clock import Clock
from maas_gateway.crypto.aead import frame
from maas_gateway.crypto.digests import sha256
from maas_gateway.crypto.key_material import KeyMaterial
from maas_gateway.database.engine import Database
from maas_gateway.database.sessions import UnscopedSession
from maas_gateway.errors import (
    CiphertextRejected,
    Conflict,
    InvalidRequest,
    KeyHolderUnavailable,
    KeyNotFound,
    Misconfigured,
)
from maas_gateway.identifiers import PLATFORM
from maas_gateway.keyring import store
from maas_gateway.keyring.holder import Reference, RootKeyHolder
from maas_gateway.keyring.key import KeyState, KeyVersion, Purpose
from maas_gateway.keyring.store import StoredKey

_HOLDER, _DEPLOYMENT = "holder", "deployment"


class RootRing:
    """The versions of the root key.

    Args:
        database: the key store.
        holders: all that are configured, by kind; versions of each may be open at once.
        makes_at: the kind of the one that makes new versions.
        clock: what time it is.
    """

    def __init__(
        self, database: Database, holders: Mapping[str, RootKeyHolder], *, makes_at: str, clock: Clock
    ) -> None:
        self._database = database
        self._holders = holders
        self._makes_at = makes_at
        self._clock = clock
        self._known: dict[int, KeyVersion] = {}

    async def wrap(self, key: KeyMaterial, associated_data: bytes) -> tuple[int, bytes]:
        """Return the primary's number and `key` wrapped under it; `is_primary` tells whether it still is.

        Raises:
            KeyNotFound: there is no root key.
            KeyHolderUnavailable: its holder does not answer.
        """
        for version in (await self._read()).values():
            if version.state is KeyState.PRIMARY:
                return version.version, await self._holder(version).wrap(reference_of(version), key, associated_data)
        raise KeyNotFound("there is no root key; run: maas-gateway init")

    async def unwrap(self, number: int, wrapped: bytes, associated_data: bytes) -> KeyMaterial:
        """Return the key that `wrapped` holds.

        Raises:
            CiphertextRejected: it was altered or moved, or that version does not open any more.
            KeyHolderUnavailable: the holder does not answer.
        """
        version = self._known.get(number) or (await self._read()).get(number)
        if version is None or not version.state.opens:
            raise CiphertextRejected(f"version {number} of the root key does not open anything here")
        return await self._holder(version).unwrap(reference_of(version), wrapped, associated_data)

    async def is_primary(self, session: UnscopedSession, number: int) -> bool:
        """Tell whether a version is the primary, and keep it so until this transaction ends."""
        return await store.is_primary(session.within(PLATFORM), Purpose.ROOT, number)

    async def new_version(self, number: int, state: KeyState, *, holder: str | None = None) -> StoredKey:
        """Make a root key at a holder, and the row that will say so.

        Args:
            number: the version's.
            state: pending, or primary for the first.
            holder: at which; none means the configured one.

        Raises:
            InvalidRequest: no such holder is configured.
            Conflict: the holder can make no other key than it has.
            KeyHolderUnavailable: it does not answer.
        """
        kind = holder or self._makes_at
        self.check_holder(kind)
        known = await self._read()
        deployment = next(iter(known.values())).public[_DEPLOYMENT] if known else str(uuid.uuid4())  # type: ignore[index]  # a root version always has one
        reference = await self._holders[kind].create(f"{deployment}-{number}")
        if any(version.state.opens and reference_of(version) == reference for version in known.values()):
            raise Conflict(f"the holder '{kind}' has no other key than the one in use; configure another, then rotate")
        now = self._clock.now()
        public = {**reference, _HOLDER: kind, _DEPLOYMENT: deployment}
        version = KeyVersion(PLATFORM, Purpose.ROOT, number, state, 0, now, now, public)
        return await self.proven(version)

    def check_holder(self, kind: str) -> None:
        """Refuse a holder that is not configured.

        Raises:
            InvalidRequest: it is not.
        """
        if kind not in self._holders:
            raise InvalidRequest(f"holder: '{kind}' is not configured; there are {', '.join(sorted(self._holders))}")

    async def proven(self, version: KeyVersion) -> StoredKey:
        """Return a version with its proof, as it is stored."""
        bound_to = _proof_is_bound_to(version)
        proof = await self._holder(version).wrap(reference_of(version), _proof_of(version), bound_to)
        return StoredKey(version, proof)

    async def check(self) -> None:
        """Refuse root keys that are not this deployment's; a holder that does not answer is not a refusal.

        Raises:
            Misconfigured: a version does not open its proof, or its holder is not configured.
        """
        async with self._database.read(PLATFORM) as session:
            ring = await store.ring(session, Purpose.ROOT)
        for stored in ring:
            if not stored.version.state.opens or stored.wrapped is None:
                continue
            await self._check(stored.version, stored.wrapped)

    async def destroy(self, version: KeyVersion) -> None:
        """Have the holder destroy a version's key; safe to repeat."""
        await self._holder(version).destroy(reference_of(version))

    def forget(self) -> None:
        """Read the ring again when it is next needed, because it may have changed."""
        self._known = {}

    async def close(self) -> None:
        """Let go of every holder."""
        for holder in self._holders.values():
            await holder.close()

    async def _check(self, version: KeyVersion, proof: bytes) -> None:
        kind = (version.public or {}).get(_HOLDER, "")
        try:
            opened = await self._holder(version).unwrap(reference_of(version), proof, _proof_is_bound_to(version))
        except CiphertextRejected:
            opened = None
        except KeyHolderUnavailable:
            if kind in self._holders:
                return
            opened = None
        if opened != _proof_of(version):
            raise Misconfigured(
                f"the root key (holder '{kind}', version {version.version}) is not this deployment's: it does not open "
                "the key store; nothing was changed"
            )

    async def _read(self) -> dict[int, KeyVersion]:
        async with self._database.read(PLATFORM) as session:
            ring = await store.ring(session, Purpose.ROOT)
        self._known = {stored.version.version: stored.version for stored in ring}
        return self._known

    def _holder(self, version: KeyVersion) -> RootKeyHolder:
        kind = (version.public or {}).get(_HOLDER, "")
        if kind not in self._holders:
            raise KeyHolderUnavailable(f"the root key's holder '{kind}' is not configured", retry_after_s=30)
        return self._holders[kind]


def reference_of(version: KeyVersion) -> Reference:
    """Return what names a root version at its holder."""
    return {name: text for name, text in (version.public or {}).items() if name not in {_HOLDER, _DEPLOYMENT}}


def adopted(version: KeyVersion, reference: Reference, *, holder: str, deployment: str) -> KeyVersion:
    """Return a version of a root key that was there before the ring was."""
    return replace(version, public={**reference, _HOLDER: holder, _DEPLOYMENT: deployment})


def _proof_of(version: KeyVersion) -> KeyMaterial:
    """Return the value whose wrapping proves the key: known to everybody, so nothing is lost with it."""
    return KeyMaterial.from_bytes(sha256(_proof_is_bound_to(version)))


def _proof_is_bound_to(version: KeyVersion) -> bytes:
    return frame("mgw1 root", (version.public or {}).get(_DEPLOYMENT, ""), version.version)
