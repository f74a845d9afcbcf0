"""Every ring of the deployment: what it makes, what it opens, how it changes.

Rules: rings are read once and kept; a version that is not known makes the ring be read again, at a
bounded rate, before anything is refused, so that a process which has not yet seen a rotation fails
no request. What is new is made with the primary as the store has it in that very transaction.
Private bytes do not leave this room: others get a `Signer`, or have data keys wrapped and opened.
"""

import asyncio
import contextlib
from dataclasses import dataclass, replace

from maas_gateway.clock import Clock
from maas_gateway.crypto.aead import frame
from maas_gateway.crypto.key_material import KeyMaterial
from maas_gateway.crypto.signatures import ES256Signer, Signer
from maas_gateway.database.engine import Database
from maas_gateway.database.sessions import TenantSession
from maas_gateway.errors import CiphertextRejected, Conflict, KeyNotFound
from maas_gateway.identifiers import PLATFORM, TenantId
from maas_gateway.keyring import store
from maas_gateway.keyring.holder import RootKeyHolder
from maas_gateway.keyring.key import KeyState, KeyVersion, Purpose
from maas_gateway.keyring.store import StoredKey

_RELOAD_PAUSE_S = 0.1

RingId = tuple[TenantId, Purpose]


@dataclass(frozen=True, slots=True)
class _Ring:
    read_at_s: float
    versions: dict[int, KeyVersion]
    keys: dict[int, KeyMaterial]

    @property
    def primary(self) -> int | None:
        return next((n for n, version in self.versions.items() if version.state is KeyState.PRIMARY), None)


class Keyring:
    """All keyrings.

    Args:
        database: the key store.
        holder: who wraps the rings' keys.
        clock: what time it is.
    """

    def __init__(self, database: Database, holder: RootKeyHolder, clock: Clock) -> None:
        self.database = database
        self.holder = holder
        self.clock = clock
        self._rings: dict[RingId, _Ring] = {}
        self._generation = 0
        self._signers: dict[int, Signer] = {}
        self._locks: dict[RingId, asyncio.Lock] = {}

    async def ensure(self, tenant: TenantId, purpose: Purpose) -> None:
        """Give a ring its first version, primary, unless it has one, or gets one from another process meanwhile."""
        with contextlib.suppress(Conflict):
            async with self.database.write(tenant) as session:
                if not await store.ring(session, purpose):
                    await store.add(session, await self._new_version(tenant, purpose, 1, KeyState.PRIMARY))

    async def versions(self, tenant: TenantId, purpose: Purpose) -> tuple[KeyVersion, ...]:
        """Return a ring's versions by number, as stored now."""
        if purpose is Purpose.ROOT:
            return await self.holder.versions()
        async with self.database.read(tenant) as session:
            return tuple(stored.version for stored in await store.ring(session, purpose))

    async def signer(self) -> Signer:
        """Return what signs tokens: the primary of `token-signing`."""
        ring = await self._ring((PLATFORM, Purpose.TOKEN_SIGNING))
        if ring.primary is None:
            raise KeyNotFound("keyring 'token-signing' has no primary; run: maas-gateway init")
        if ring.primary not in self._signers:
            self._signers[ring.primary] = ES256Signer(ring.keys[ring.primary])
        return self._signers[ring.primary]

    async def published(self, *, asked_at_s: float | None = None) -> tuple[KeyVersion, ...]:
        """Return the versions of `token-signing` that may verify a token, pending ones included.

        Args:
            asked_at_s: if given, the ring must have been read after that moment of the clock.
        """
        ring = await self._ring((PLATFORM, Purpose.TOKEN_SIGNING), asked_at_s=asked_at_s)
        return tuple(version for version in ring.versions.values() if version.state.opens)

    async def key(self, tenant: TenantId, purpose: Purpose, version: int) -> KeyMaterial:
        """Return the bytes of one version that may open.

        Raises:
            CiphertextRejected: there is no such version, or it opens nothing any more.
        """
        ring = await self._ring((tenant, purpose))
        if version not in ring.keys:
            ring = await self._ring((tenant, purpose), asked_at_s=self.clock.monotonic_s())
        if version not in ring.keys:
            raise CiphertextRejected(f"version {version} of keyring '{purpose}' opens nothing any more")
        return ring.keys[version]

    async def primary(self, session: TenantSession, purpose: Purpose) -> tuple[int, KeyMaterial]:
        """Return the primary as this transaction of the key store sees it, and keep it so until it ends.

        Raises:
            KeyNotFound: the ring has no primary.
        """
        for stored in await store.ring(session, purpose, for_update=True):
            if stored.version.state is KeyState.PRIMARY:
                ring = self._rings.get((session.tenant, purpose))
                known = None if ring is None else ring.keys.get(stored.version.version)
                return stored.version.version, known or await self._unwrap(stored)
        raise KeyNotFound(f"keyring '{purpose}' has no primary")

    async def add_version(self, tenant: TenantId, purpose: Purpose) -> int:
        """Make a new version, pending and visible, unless one is; return its number."""
        if purpose is Purpose.ROOT:
            return await self.holder.add_version()
        async with self.database.write(tenant) as session:
            found = await store.ring(session, purpose, for_update=True)
            if not found:
                raise KeyNotFound(f"keyring '{purpose}' not found")
            for stored in found:
                if stored.version.state is KeyState.PENDING:
                    return stored.version.version
            number = found[-1].version.version + 1
            await store.add(session, await self._new_version(tenant, purpose, number, KeyState.PENDING))
        self.forget()
        return number

    async def move(self, tenant: TenantId, purpose: Purpose, version: int, *, state: KeyState) -> None:
        """Change a version's state; a new primary makes the old one enabled in the same step.

        Raises:
            KeyNotFound: there is no such version.
            IllegalTransition: its life has no such step.
            Conflict: it is the primary, which only a rotation replaces.
        """
        if purpose is Purpose.ROOT:
            await self.holder.move(version, state)
            return
        async with self.database.write(tenant) as session:
            found = {
                stored.version.version: stored.version for stored in await store.ring(session, purpose, for_update=True)
            }
            if version not in found:
                raise KeyNotFound(f"keyring '{purpose}' has no version {version}")
            if found[version].state is state:
                return
            if found[version].state is KeyState.PRIMARY:
                raise Conflict("the primary gives way only to a new one: rotate")
            found[version].check_move(state)
            now = self.clock.now()
            if state is KeyState.PRIMARY:
                for other in found.values():
                    if other.state is KeyState.PRIMARY:
                        await store.set_state(session, replace(other, state=KeyState.ENABLED, changed_at=now))
            await store.set_state(session, replace(found[version], state=state, changed_at=now))
        self.forget()

    def forget(self) -> None:
        """Have every ring read again when it is next needed, because one may have changed."""
        self._generation += 1
        self._rings.clear()
        self._signers.clear()

    async def _new_version(self, tenant: TenantId, purpose: Purpose, number: int, state: KeyState) -> StoredKey:
        public = None
        if purpose is Purpose.TOKEN_SIGNING:
            key = ES256Signer.generate_key()
            signer = ES256Signer(key)
            public = {**signer.public_jwk(), "kid": signer.key_id, "alg": "ES256", "use": "sig"}
        else:
            key = KeyMaterial.generate()
        now = self.clock.now()
        version = KeyVersion(tenant, purpose, number, state, 0, now, now, public)
        root_version, wrapped = await self.holder.wrap(key, associated_data(version))
        return StoredKey(replace(version, root_version=root_version), wrapped)

    async def _unwrap(self, stored: StoredKey) -> KeyMaterial:
        version = stored.version
        if stored.wrapped is None:
            raise CiphertextRejected(f"version {version.version} of keyring '{version.purpose}' is destroyed")
        return await self.holder.unwrap(version.root_version, stored.wrapped, associated_data(version))

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
            self._signers.clear()
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
        keys = {s.version.version: await self._unwrap(s) for s in found if s.version.state.opens}
        return _Ring(read_at_s, {s.version.version: s.version for s in found}, keys)


def associated_data(version: KeyVersion) -> bytes:
    """Return what a wrapped key version is bound to: whose, what for, which number."""
    return frame("mgw1 keyring", version.tenant, version.purpose.value, version.version)
