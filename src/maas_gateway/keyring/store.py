"""Keyrings and wrapped data keys in the key store. Every change of a ring raises the topic `keyring`."""

import uuid
from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import RowMapping

from maas_gateway.crypto.envelope import WrappedDataKey
from maas_gateway.database.engine import Database
from maas_gateway.database.sessions import Session, TenantSession, UnscopedSession
from maas_gateway.database.unscoped import read_all, write_all
from maas_gateway.errors import CiphertextRejected
from maas_gateway.identifiers import TenantId
from maas_gateway.keyring.key import KeyState, KeyVersion, Purpose
from maas_gateway.keyring.tables import DATA_KEYS, KEY_VERSIONS

TOPIC: Final = "keyring"
_MAX_PARAMETERS: Final = 10_000
"""What a statement takes on either engine."""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key version and its bytes, wrapped by the root key; None once destroyed."""

    version: KeyVersion
    wrapped: bytes | None


def _stored(row: RowMapping) -> StoredKey:
    if row["state"] not in set(KeyState):
        raise CiphertextRejected(f"version {row['version']} of a keyring has a state that there is not")
    version = KeyVersion(
        tenant=TenantId(row["tenant_id"]),
        purpose=Purpose(row["purpose"]),
        version=row["version"],
        state=KeyState(row["state"]),
        root_version=row["root_version"],
        created_at=row["created_at"],
        changed_at=row["changed_at"],
        public=row["public"],
    )
    return StoredKey(version, None if row["wrapped"] is None else bytes(row["wrapped"]))


def _wrapped(row: RowMapping) -> WrappedDataKey:
    return WrappedDataKey(
        artifact_id=row["artifact_id"],
        tenant_id=row["tenant_id"],
        purpose=row["purpose"],
        key_version=row["key_version"],
        nonce=bytes(row["nonce"]),
        context=bytes(row["context"]),
        ciphertext=bytes(row["ciphertext"]),
    )


def every_ring(database: Database, *, is_write: bool) -> AbstractAsyncContextManager[UnscopedSession]:
    """Open a transaction on every tenant's rings: what a new root key needs."""
    return write_all(database) if is_write else read_all(database)


async def ring(session: TenantSession, purpose: Purpose, *, for_update: bool = False) -> tuple[StoredKey, ...]:
    """Return all versions of one ring by number."""
    rows = await session.rows(
        KEY_VERSIONS,
        KEY_VERSIONS.c.purpose == purpose.value,
        order_by=[KEY_VERSIONS.c.version],
        for_update=for_update,
    )
    return tuple(_stored(row) for row in rows)


async def is_primary(session: TenantSession, purpose: Purpose, version: int) -> bool:
    """Tell whether a version is its ring's primary, and keep it so until this transaction ends."""
    found = await ring(session, purpose, for_update=True)
    return any(s.version.version == version and s.version.state is KeyState.PRIMARY for s in found)


async def rings(database: Database) -> frozenset[tuple[TenantId, str]]:
    """Return which owner has a ring of which purpose."""
    async with read_all(database) as session:
        rows = await session.rows(KEY_VERSIONS)
    return frozenset((TenantId(row["tenant_id"]), row["purpose"]) for row in rows)


async def add(session: TenantSession, stored: StoredKey) -> None:
    """Write a new key version."""
    version = stored.version
    await session.insert(
        KEY_VERSIONS,
        purpose=version.purpose.value,
        version=version.version,
        state=version.state.value,
        root_version=version.root_version,
        wrapped=stored.wrapped,
        public=None if version.public is None else dict(version.public),
        created_at=version.created_at,
        changed_at=version.changed_at,
    )
    await session.bump(TOPIC)


async def set_state(session: TenantSession, version: KeyVersion) -> None:
    """Write a version's state; destroying it drops its bytes."""
    gone = {"wrapped": None} if version.state is KeyState.DESTROYED else {}
    await session.update(
        KEY_VERSIONS,
        KEY_VERSIONS.c.purpose == version.purpose.value,
        KEY_VERSIONS.c.version == version.version,
        state=version.state.value,
        changed_at=version.changed_at,
        **gone,
    )
    await session.bump(TOPIC)


async def touch(session: TenantSession) -> None:
    """Have every process drop what it has of any ring."""
    await session.bump(TOPIC)


async def destroy_every(session: TenantSession, now: datetime) -> tuple[KeyVersion, ...]:
    """Destroy every version of every ring of the session's owner, and its data keys; return the versions.

    The life of a key is not asked: who erases a tenant does not wait for a rotation.
    """
    await session.update(KEY_VERSIONS, wrapped=None, state=KeyState.DESTROYED.value, changed_at=now)
    await session.delete(DATA_KEYS)
    await session.bump(TOPIC)
    return tuple(_stored(row).version for row in await session.rows(KEY_VERSIONS, order_by=[KEY_VERSIONS.c.version]))


async def under_root(session: UnscopedSession, root_version: int, *, limit: int | None = None) -> Sequence[StoredKey]:
    """Return key versions of any ring whose bytes are wrapped by that root version; a root version wraps itself: 0."""
    rows = await session.rows(
        KEY_VERSIONS,
        KEY_VERSIONS.c.root_version == root_version,
        KEY_VERSIONS.c.wrapped.is_not(None),
        limit=limit,
    )
    return [_stored(row) for row in rows]


async def count_under_root(session: UnscopedSession, root_version: int) -> int:
    """Return how many key versions are wrapped by that root version."""
    return await session.count(
        KEY_VERSIONS, KEY_VERSIONS.c.root_version == root_version, KEY_VERSIONS.c.wrapped.is_not(None)
    )


async def n_uses(session: UnscopedSession, tenant: TenantId, purpose: Purpose, version: int) -> int:
    """Return how many items a version wraps."""
    if purpose is Purpose.ROOT:
        return await count_under_root(session, version)
    return await count_data_keys(session.within(tenant), purpose, version)


async def rewrapped(session: UnscopedSession, version: KeyVersion, root_version: int, wrapped: bytes) -> None:
    """Replace a version's wrapping, unless that has been done, or the version destroyed, meanwhile."""
    await session.update(
        KEY_VERSIONS,
        KEY_VERSIONS.c.root_version == version.root_version,
        KEY_VERSIONS.c.wrapped.is_not(None),
        KEY_VERSIONS.c.tenant_id == version.tenant,
        KEY_VERSIONS.c.purpose == version.purpose.value,
        KEY_VERSIONS.c.version == version.version,
        root_version=root_version,
        wrapped=wrapped,
    )


async def add_data_key(session: TenantSession, wrapped: WrappedDataKey, created_at: datetime) -> None:
    """Write a new data key."""
    await session.insert(
        DATA_KEYS,
        artifact_id=wrapped.artifact_id,
        purpose=wrapped.purpose,
        key_version=wrapped.key_version,
        nonce=wrapped.nonce,
        context=wrapped.context,
        ciphertext=wrapped.ciphertext,
        created_at=created_at,
    )


async def replace_data_keys(session: TenantSession, rewrapped: Sequence[WrappedDataKey]) -> None:
    """Replace data keys' wrappings; their contexts stay."""
    rows = [
        {"artifact_id": w.artifact_id, "key_version": w.key_version, "nonce": w.nonce, "ciphertext": w.ciphertext}
        for w in rewrapped
    ]
    await session.update_each(DATA_KEYS, "artifact_id", rows)


async def data_key(session: TenantSession, artifact_id: uuid.UUID) -> WrappedDataKey | None:
    """Return an artifact's wrapped data key."""
    row = await session.row(DATA_KEYS, DATA_KEYS.c.artifact_id == artifact_id)
    return None if row is None else _wrapped(row)


async def data_keys_under(
    session: TenantSession, purpose: Purpose, key_versions: Collection[int], *, limit: int
) -> Sequence[WrappedDataKey]:
    """Return data keys that one of those versions wraps; the index finds them, however many others there are."""
    rows = await session.rows(
        DATA_KEYS,
        DATA_KEYS.c.purpose == purpose.value,
        DATA_KEYS.c.key_version.in_(key_versions),
        limit=limit,
        for_update=True,
    )
    return [_wrapped(row) for row in rows]


async def count_data_keys(session: TenantSession, purpose: Purpose, key_version: int | None = None) -> int:
    """Return how many data keys the ring wraps, perhaps with that version only."""
    where = [] if key_version is None else [DATA_KEYS.c.key_version == key_version]
    return await session.count(DATA_KEYS, DATA_KEYS.c.purpose == purpose.value, *where)


async def drop_data_keys(session: Session, artifact_ids: Sequence[uuid.UUID]) -> int:
    """Delete data keys; what they sealed is lost for ever."""
    n_dropped = 0
    for first in range(0, len(artifact_ids), _MAX_PARAMETERS):
        some = artifact_ids[first : first + _MAX_PARAMETERS]
        n_dropped += await session.delete(DATA_KEYS, DATA_KEYS.c.artifact_id.in_(some))
    return n_dropped


async def data_keys_before(session: Session, created_before: datetime) -> frozenset[uuid.UUID]:
    """Return the artifacts whose data keys were made before that time."""
    rows = await session.rows(DATA_KEYS, DATA_KEYS.c.created_at < created_before)
    return frozenset(row["artifact_id"] for row in rows)
