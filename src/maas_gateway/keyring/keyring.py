"""Every ring of the deployment: what it makes, what it opens, how it changes.

Rules: rings are read once and kept, and a key is opened when it is first needed; a version that is
not known makes the ring be read again, at a bounded rate, before anything is refused, so that a
process which has not yet seen a rotation fails no request. What is new is made with the primary,
which the transaction that stores it confirms. The root-key holder is never called within a
transaction, and verifying a signature never needs it. Private bytes do not leave this room: others
get a `Signer`, or have data keys wrapped and opened.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from maas_gateway.clock import Clock
from maas_gateway.crypto.aead import frame
from maas_gateway.crypto.key_material import KeyMaterial
from maas_gateway.crypto.signatures import ES256Signer, Signer
from maas_gateway.database.engine import Database
from maas_gateway.database.sessions import UnscopedSession
from maas_gateway.errors import CiphertextRejected, Conflict, KeyNotFound
from maas_gateway.identifiers import PLATFORM, TenantId
from maas_gateway.keyring import store
from maas_gateway.keyring.key import KeyState, KeyVersion, Purpose
from maas_gateway.keyring.root import RootRing
from maas_gateway.keyring.store import StoredKey
from maas_gateway.memory import Memory

_RELOAD_PAUSE_S: Final = 0.1
_MAX_KEPT: Final = 100_000
_ATTEMPTS: Final = 5

RingId = tuple[TenantId, Purpose]
KeyName = tuple[TenantId, Purpose, int]


@dataclass(frozen=True, slots=True)
class _Ring:
    read_at_s: float
    stored: dict[int, StoredKey]

    @property
    def primary(self) -> int | None:
        return next((n for n, key in self.stored.items() if key.version.state is KeyState.PRIMARY), None)

    def opening(self, version: int) -> StoredKey | None:
        found = self.stored.get(version)
        return found if found is not None and found.version.state.opens else None


class Keyring:
    """All keyrings.

    Args:
        database: the key store.
        root: who wraps the rings' keys.
        clock: what time it is.
    """

    def __init__(self, database: Database, root: RootRing, clock: Clock) -> None:
        self.database = database
        self.root = root
        self.clock = clock
        self._rings: dict[RingId, _Ring] = {}
        self._generation = 0
        self._opened: Memory[KeyName, KeyMaterial] = Memory(_MAX_KEPT)
        self._signers: Memory[KeyName, Signer] = Memory(_MAX_KEPT)
        self._locks: dict[RingId, asyncio.Lock] = {}

    async def ensure(self, tenant: TenantId, purpose: Purpose) -> None:
        """Give a ring its first version, primary, unless it has one, or gets one from another process meanwhile."""
        if await self.versions(tenant, purpose):
            return
        stored = await self._new_version(tenant, purpose, 1, KeyState.PRIMARY)
        async with self._storing(stored) as session:
            within = session.within(tenant)
            if not await store.ring(within, purpose, for_update=True):
                await store.add(within, stored)
        self.forget()

    async def versions(self, tenant: TenantId, purpose: Purpose) -> tuple[KeyVersion, ...]:
        """Return a ring's versions by number, as stored now."""
        async with self.database.read(tenant) as session:
            return tuple(stored.version for stored in await store.ring(session, purpose))

    async def signer(self, tenant: TenantId, purpose: Purpose) -> Signer:
        """Return what signs for a purpose: its primary.

        Raises:
            KeyNotFound: the ring has no primary.
            KeyHolderUnavailable: the root-key holder does not answer.
        """
        number, _ = await self.primary(tenant, purpose)
        return await self._signers.find((tenant, purpose, number), partial(self._signer, tenant, purpose, number))

    async def published(
        self, tenant: TenantId, purpose: Purpose, *, asked_at_s: float | None = None
    ) -> tuple[KeyVersion, ...]:
        """Return the versions that may verify a signature, pending ones included; needs no root key.

        Args:
            tenant: whose ring.
            purpose: of which purpose, one that signs.
            asked_at_s: if given, the ring must have been read after that moment of the clock.
        """
        ring = await self._ring((tenant, purpose), asked_at_s=asked_at_s)
        return tuple(stored.version for stored in ring.stored.values() if stored.version.state.opens)

    async def key(self, tenant: TenantId, purpose: Purpose, version: int) -> KeyMaterial:
        """Return the bytes of one version that may open.

        Raises:
            CiphertextRejected: there is no such version, or it opens nothing any more.
            KeyHolderUnavailable: the root-key holder does not answer.
        """
        stored = (await self._ring((tenant, purpose))).opening(version)
        if stored is None:
            stored = (await self._ring((tenant, purpose), asked_at_s=self.clock.monotonic_s())).opening(version)
        if stored is None:
            raise CiphertextRejected(f"version {version} of keyring '{purpose}' opens nothing any more")
        return await self._opened.find((tenant, purpose, version), partial(self._unwrap, stored))

    async def primary(self, tenant: TenantId, purpose: Purpose) -> tuple[int, KeyMaterial]:
        """Return the primary's number and bytes; `store.is_primary` tells whether it still is.

        Raises:
            KeyNotFound: the ring has no primary.
            KeyHolderUnavailable: the root-key holder does not answer.
        """
        number = (await self._ring((tenant, purpose))).primary
        if number is None:
            number = (await self._ring((tenant, purpose), asked_at_s=self.clock.monotonic_s())).primary
        if number is None:
            raise KeyNotFound(f"keyring '{purpose}' has no primary; run: maas-gateway init")
        return number, await self.key(tenant, purpose, number)

    async def add_version(self, tenant: TenantId, purpose: Purpose, *, holder: str | None = None) -> int:
        """Make a new version, pending and visible, unless one is; return its number.

        Args:
            tenant: whose ring.
            purpose: of which purpose.
            holder: of the root ring: at which holder; none means the configured one.

        Raises:
            KeyNotFound: there is no such ring.
            KeyHolderUnavailable: the root-key holder does not answer.
        """
        for _ in range(_ATTEMPTS):
            found = await self.versions(tenant, purpose)
            if not found:
                raise KeyNotFound(f"keyring '{purpose}' not found")
            for version in found:
                if version.state is KeyState.PENDING:
                    return version.version
            number = found[-1].version + 1
            stored = await self._new_version(tenant, purpose, number, KeyState.PENDING, holder=holder)
            async with self._storing(stored) as session:
                within = session.within(tenant)
                ring = await store.ring(within, purpose, for_update=True)
                if ring[-1].version.version != found[-1].version:
                    continue  # another process was faster; look again
                await store.add(within, stored)
            self.forget()
            return number
        raise Conflict(f"keyring '{purpose}' is being changed by others; try again")

    async def move(self, tenant: TenantId, purpose: Purpose, version: int, *, state: KeyState) -> None:
        """Change a version's state; a new primary makes the old one enabled in the same step.

        Raises:
            KeyNotFound: there is no such version.
            IllegalTransition: its life has no such step.
            Conflict: it is the primary, which only a rotation replaces, or something is still under it.
            KeyHolderUnavailable: the root-key holder does not answer.
        """
        if purpose is Purpose.ROOT and state is KeyState.DESTROYED:
            await self._destroy_root(version)
        async with store.every_ring(self.database, is_write=True) as session:
            within = session.within(tenant)
            ring = {s.version.version: s.version for s in await store.ring(within, purpose, for_update=True)}
            moved = _checked(ring, purpose, version, state)
            if moved is None:
                return
            if state in {KeyState.DISABLED, KeyState.DESTROYED}:
                await _refuse_if_used(session, tenant, purpose, version)
            now = self.clock.now()
            if state is KeyState.PRIMARY:
                for other in ring.values():
                    if other.state is KeyState.PRIMARY:
                        await store.set_state(within, replace(other, state=KeyState.ENABLED, changed_at=now))
            await store.set_state(within, replace(moved, state=state, changed_at=now))
        self.forget()

    def forget(self) -> None:
        """Have every ring read again, and every key opened again, when it is next needed."""
        self._generation += 1
        self._rings.clear()
        self._opened.forget()
        self._signers.forget()
        self.root.forget()

    async def _new_version(
        self, tenant: TenantId, purpose: Purpose, number: int, state: KeyState, *, holder: str | None = None
    ) -> StoredKey:
        if purpose is Purpose.ROOT:
            return await self.root.new_version(number, state, holder=holder)
        public = None
        if purpose.signs:
            key = ES256Signer.generate_key()
            signer = ES256Signer(key)
            public = {**signer.public_jwk(), "kid": signer.key_id, "alg": "ES256", "use": "sig"}
        else:
            key = KeyMaterial.generate()
        now = self.clock.now()
        version = KeyVersion(tenant, purpose, number, state, 0, now, now, public)
        root_version, wrapped = await self.root.wrap(key, associated_data(version))
        return StoredKey(replace(version, root_version=root_version), wrapped)

    @asynccontextmanager
    async def _storing(self, stored: StoredKey) -> AsyncIterator[UnscopedSession]:
        """Open a transaction in which a new key may be stored: the root key that wraps it is the primary."""
        async with store.every_ring(self.database, is_write=True) as session:
            number = stored.version.root_version
            if stored.version.purpose is not Purpose.ROOT and not await self.root.is_primary(session, number):
                raise Conflict("the root key is being rotated; try again", retry_after_s=1)
            yield session

    async def _destroy_root(self, number: int) -> None:
        """Have the holder destroy a root key, once it is known that it may be."""
        ring = {version.version: version for version in await self.versions(PLATFORM, Purpose.ROOT)}
        if _checked(ring, Purpose.ROOT, number, KeyState.DESTROYED) is None:
            return
        async with store.every_ring(self.database, is_write=False) as session:
            await _refuse_if_used(session, PLATFORM, Purpose.ROOT, number)
        await self.root.destroy(ring[number])

    async def _signer(self, tenant: TenantId, purpose: Purpose, number: int) -> Signer:
        return ES256Signer(await self.key(tenant, purpose, number))

    async def _unwrap(self, stored: StoredKey) -> KeyMaterial:
        version = stored.version
        if stored.wrapped is None:
            raise CiphertextRejected(f"version {version.version} of keyring '{version.purpose}' is destroyed")
        return await self.root.unwrap(version.root_version, stored.wrapped, associated_data(version))

    async def _ring(self, ring_id: RingId, *, asked_at_s: float | None = None) -> _Ring:
        found = self._rings.get(ring_id)
        if found is not None and (asked_at_s is None or found.read_at_s >= asked_at_s):
            return found
        async with self._locks.setdefault(ring_id, asyncio.Lock()):
            found = self._rings.get(ring_id)
            if found is not None:
                if asked_at_s is None or found.read_at_s >= asked_at_s:
                    return found
                await asyncio.sleep(max(0.0, found.read_at_s + _RELOAD_PAUSE_S - self.clock.monotonic_s()))
            ring = await self._read_current(ring_id)
            self._rings[ring_id] = ring
            return ring

    async def _read_current(self, ring_id: RingId) -> _Ring:
        """Read a ring, again if anything changed while it was being read."""
        while True:
            generation = self._generation
            ring = await self._read(*ring_id)
            if generation == self._generation:
                return ring

    async def _read(self, tenant: TenantId, purpose: Purpose) -> _Ring:
        read_at_s = self.clock.monotonic_s()
        async with self.database.read(tenant) as session:
            found = await store.ring(session, purpose)
        return _Ring(read_at_s, {stored.version.version: stored for stored in found})


def associated_data(version: KeyVersion) -> bytes:
    """Return what a wrapped key version is bound to: whose, what for, which number."""
    return frame("mgw1 keyring", version.tenant, version.purpose.value, version.version)


def _checked(ring: dict[int, KeyVersion], purpose: Purpose, number: int, state: KeyState) -> KeyVersion | None:
    """Return the version that is to be moved, or None where it stands there already."""
    if number not in ring:
        raise KeyNotFound(f"keyring '{purpose}' has no version {number}")
    version = ring[number]
    if version.state is state:
        return None
    if version.state is KeyState.PRIMARY:
        raise Conflict("the primary gives way only to a new one: rotate")
    version.check_move(state)
    return version


async def _refuse_if_used(session: UnscopedSession, tenant: TenantId, purpose: Purpose, number: int) -> None:
    n_uses = await store.n_uses(session, tenant, purpose, number)
    if n_uses:
        raise Conflict(f"{n_uses} items are still wrapped by version {number} of keyring '{purpose}'; rotate first")
