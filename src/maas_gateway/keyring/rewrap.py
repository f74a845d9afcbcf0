"""New key over old: data keys under a ring's new primary, ring keys under a new root. Blobs are not touched.

Rules: in batches, each its own transaction, until nothing is under an old version; safe to run
twice, to be killed, and to run beside uploads (what is stored meanwhile is under the primary already).
"""

from collections.abc import AsyncIterator

from maas_gateway.crypto.envelope import rewrap_data_key
from maas_gateway.identifiers import TenantId
from maas_gateway.keyring import store
from maas_gateway.keyring.key import KeyState, Purpose
from maas_gateway.keyring.keyring import Keyring, associated_data

_BATCH = 200


def rewrap(keyring: Keyring, tenant: TenantId, purpose: Purpose) -> AsyncIterator[int]:
    """Put everything a ring wraps under its primary; yields how many items each batch moved.

    `token-signing` wraps nothing, so nothing is yielded for it.
    """
    if purpose is Purpose.ROOT:
        return _ring_keys(keyring)
    return _data_keys(keyring, tenant, purpose)


async def n_to_rewrap(keyring: Keyring, tenant: TenantId, purpose: Purpose) -> int:
    """Return how many items are wrapped by another version than the primary."""
    versions = await keyring.versions(tenant, purpose)
    others = [v.version for v in versions if v.state is not KeyState.PRIMARY]
    return sum([await n_uses(keyring, tenant, purpose, number) for number in others])


async def n_uses(keyring: Keyring, tenant: TenantId, purpose: Purpose, version: int) -> int:
    """Return how many items that version wraps."""
    if purpose is Purpose.ROOT:
        async with store.every_ring(keyring.database, is_write=False) as every:
            return await store.count_under_root(every, version)
    async with keyring.database.read(tenant) as session:
        return await store.count_data_keys(session, purpose, version)


async def _data_keys(keyring: Keyring, tenant: TenantId, purpose: Purpose) -> AsyncIterator[int]:
    while True:
        async with keyring.database.write(tenant) as session:
            primary, key = await keyring.primary(session, purpose)
            batch = await store.data_keys_not_under(session, purpose, primary, limit=_BATCH)
            for wrapped in batch:
                old = await keyring.key(tenant, purpose, wrapped.key_version)
                await store.replace_data_key(session, rewrap_data_key(old, key, wrapped, key_version=primary))
        if not batch:
            return
        yield len(batch)


async def _ring_keys(keyring: Keyring) -> AsyncIterator[int]:
    primary = next(v.version for v in await keyring.holder.versions() if v.state is KeyState.PRIMARY)
    for root in await keyring.holder.versions():
        while root.version != primary:
            async with store.every_ring(keyring.database, is_write=True) as session:
                batch = await store.under_root(session, root.version, limit=_BATCH)
                for stored in batch:
                    bound_to = associated_data(stored.version)
                    key = await keyring.holder.unwrap(root.version, stored.wrapped or b"", bound_to)
                    root_version, wrapped = await keyring.holder.wrap(key, bound_to)
                    await store.rewrapped(session, stored.version, root_version, wrapped)
            if not batch:
                break
            yield len(batch)
