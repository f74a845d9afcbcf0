"""A root ring that a file of the first format kept, put into the key store.

Rules: done once, when the key store has no root ring and the file has one; states and times are the
file's; the versions keep their numbers, which the wrapped keys name. Safe to repeat.
"""

import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from maas_gateway.identifiers import PLATFORM
from maas_gateway.keyring import store
from maas_gateway.keyring.file import NAME, FileHolder, ring_in_file
from maas_gateway.keyring.key import KeyState, KeyVersion, Purpose
from maas_gateway.keyring.keyring import Keyring
from maas_gateway.keyring.root import adopted
from maas_gateway.keyring.store import StoredKey


async def adopt(keyring: Keyring, path: Path) -> bool:
    """Put the file's ring into the key store, unless that has one; return whether that was done.

    Raises:
        Misconfigured: the file cannot be read.
        KeyHolderUnavailable: it cannot be read any more.
    """
    if await keyring.versions(PLATFORM, Purpose.ROOT):
        return False
    ring = ring_in_file(path)
    if not ring:
        return False
    deployment = str(uuid.uuid4())
    rows = [await _row(keyring, number, said, deployment) for number, said in sorted(ring.items())]
    async with store.every_ring(keyring.database, is_write=True) as session:
        within = session.within(PLATFORM)
        if not await store.ring(within, Purpose.ROOT, for_update=True):
            for row in rows:
                await store.add(within, row)
    keyring.forget()
    return True


async def _row(keyring: Keyring, number: int, said: Mapping[str, str], deployment: str) -> StoredKey:
    state = KeyState(said["state"])
    version = KeyVersion(
        tenant=PLATFORM,
        purpose=Purpose.ROOT,
        version=number,
        state=state,
        root_version=0,
        created_at=datetime.fromisoformat(said["created_at"]),
        changed_at=datetime.fromisoformat(said["changed_at"]),
    )
    version = adopted(version, {NAME: str(number)}, holder=FileHolder.kind, deployment=deployment)
    return await keyring.root.proven(version) if state is not KeyState.DESTROYED else StoredKey(version, None)
