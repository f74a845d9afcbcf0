"""Transactions that see every tenant's rows. Who may open them stands in the import contracts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from maas_gateway.database.engine import Database
from maas_gateway.database.sessions import UnscopedSession


@asynccontextmanager
async def read_all(database: Database) -> AsyncIterator[UnscopedSession]:
    """Open a transaction that reads any tenant's rows."""
    async with database.connection(is_write=False) as connection:
        yield UnscopedSession(connection, database.changes)


@asynccontextmanager
async def write_all(database: Database) -> AsyncIterator[UnscopedSession]:
    """Open a transaction that changes any tenant's rows."""
    async with database.connection(is_write=True) as connection:
        yield UnscopedSession(connection, database.changes)
