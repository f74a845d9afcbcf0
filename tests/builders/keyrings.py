"""A key store with a root-key file, as a process has it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from maas_gateway.clock import SystemClock
from maas_gateway.database.engine import Database
from maas_gateway.database.metadata import KEYS_CHANGES, KEYS_METADATA, load_tables
from maas_gateway.identifiers import PLATFORM
from maas_gateway.keyring.file import FileHolder
from maas_gateway.keyring.key import Purpose
from maas_gateway.keyring.keyring import Keyring
from maas_gateway.keyring.root import RootRing


@asynccontextmanager
async def open_keyring(folder: Path) -> AsyncIterator[Keyring]:
    """Open the keyring of a folder, made at the first call; every call is another process's view of it."""
    load_tables()
    clock = SystemClock()
    FileHolder.make(folder / "root.json")
    database = Database(f"sqlite+aiosqlite:///{folder}/keys.sqlite", KEYS_CHANGES, overwrites_deleted=True)
    async with database.connection(is_write=True) as connection:
        await connection.run_sync(KEYS_METADATA.create_all)
    holders = {FileHolder.kind: FileHolder(folder / "root.json", clock)}
    keyring = Keyring(database, RootRing(database, holders, makes_at=FileHolder.kind, clock=clock), clock)
    await keyring.ensure(PLATFORM, Purpose.ROOT)
    try:
        yield keyring
    finally:
        await database.close()
