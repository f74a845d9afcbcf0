"""New key over old: data keys under a ring's new primary, ring keys under a new root. Blobs are not touched.

Rules: in batches, each its own transaction, until nothing is under an old version; safe to run
twice, to be killed, and to run beside uploads (what is stored meanwhile is under the primary
already); the root-key holder is called between transactions, and what it wrapped is stored only if
nobody has stored something newer.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from maas_gateway.crypto.envelope import rewrap_data_key
from maas_gateway.errors import Conflict
from maas_gateway.identifiers import PLATFORM, TenantId
from maas_gateway.keyring import store
from maas_gateway.keyring.key import KeyState, Purpose
from maas_gateway.keyring.keyring import Keyring, associated_data

_BATCH: Final = 192
"""Items of one transaction."""
_STEP: Final = 32
"""Items computed at a time: that is done on the event loop, where predictions wait."""
_PAUSE_S: Final = 0.022
"""Between steps, so that predictions have most of the processor."""


def rewrap(keyring: Keyring, tenant: TenantId, purpose: Purpose) -> AsyncIterator[int]:
    """Put everything a ring wraps under its primary; yields how many items each batch moved.

    A ring that signs wraps nothing, so nothing is yielded for it.
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
    async with store.every_ring(keyring.database, is_write=False) as session:
        return await store.n_uses(session, tenant, purpose, version)


async def _data_keys(keyring: Keyring, tenant: TenantId, purpose: Purpose) -> AsyncIterator[int]:
    while True:
        versions = await keyring.versions(tenant, purpose)
        keys = {v.version: await keyring.key(tenant, purpose, v.version) for v in versions if v.state.opens}
        primary = next(v.version for v in versions if v.state is KeyState.PRIMARY)
        is_primary = True
        while is_primary:
            async with keyring.database.write(tenant) as session:
                is_primary = await store.is_primary(session, purpose, primary)
                if not is_primary:
                    break
                batch = await store.data_keys_under(session, purpose, keys.keys() - {primary}, limit=_BATCH)
                for first in range(0, len(batch), _STEP):
                    moved = [
                        rewrap_data_key(keys[wrapped.key_version], keys[primary], wrapped, key_version=primary)
                        for wrapped in batch[first : first + _STEP]
                    ]
                    await store.replace_data_keys(session, moved)
                    await asyncio.sleep(_PAUSE_S)
            if not batch:
                return
            yield len(batch)


async def _ring_keys(keyring: Keyring) -> AsyncIterator[int]:
    for root in await keyring.versions(PLATFORM, Purpose.ROOT):
        while root.state is not KeyState.PRIMARY:
            async with store.every_ring(keyring.database, is_write=False) as session:
                batch = await store.under_root(session, root.version, limit=_BATCH)
            if not batch:
                break
            rewrapped = []
            for stored in batch:
                bound_to = associated_data(stored.version)
                key = await keyring.root.unwrap(root.version, stored.wrapped or b"", bound_to)
                rewrapped.append((stored.version, *await keyring.root.wrap(key, bound_to)))
            async with store.every_ring(keyring.database, is_write=True) as session:
                for number in {root_version for _, root_version, _ in rewrapped}:
                    if not await keyring.root.is_primary(session, number):
                        raise Conflict("the root key has been rotated again meanwhile", retry_after_s=1)
                for version, root_version, wrapped in rewrapped:
                    await store.rewrapped(session, version, root_version, wrapped)
            yield len(batch)
