"""One database: its engine, its transactions, its change counters.

Rules: a write transaction on SQLite begins IMMEDIATE, so that two writers queue instead of
failing half-way; SQLite runs in WAL mode with foreign keys on and a busy timeout; the key store
also overwrites what it deletes (`secure_delete`).
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Connection, Table, event, select
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from maas_gateway.database.sessions import TenantSession
from maas_gateway.identifiers import TenantId

_WRITE = "maas_write"
_BUSY_TIMEOUT_MS = 10_000


class Database:
    """An engine with transactions for one tenant.

    Args:
        url: `sqlite+aiosqlite:///…` or `postgresql+asyncpg://…`.
        changes: the table of change counters in this database's metadata.
        overwrites_deleted: whether deleted bytes are zeroed in the file (SQLite only).
        pool_size: connections kept open.
    """

    def __init__(self, url: str, changes: Table, *, overwrites_deleted: bool = False, pool_size: int = 5) -> None:
        self.url = url
        self.changes = changes
        self.engine = _engine(url, overwrites_deleted=overwrites_deleted, pool_size=pool_size)

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file of this machine."""
        return self.engine.dialect.name == "sqlite"

    @asynccontextmanager
    async def connection(self, *, is_write: bool) -> AsyncIterator[AsyncConnection]:
        """Open a transaction: committed on leaving, rolled back on an exception."""
        async with self.engine.connect() as opened:
            connection = await opened.execution_options(**{_WRITE: is_write})
            async with connection.begin():
                yield connection

    @asynccontextmanager
    async def read(self, tenant: TenantId) -> AsyncIterator[TenantSession]:
        """Open a transaction that reads one tenant's rows."""
        async with self.connection(is_write=False) as connection:
            yield TenantSession(connection, self.changes, tenant)

    @asynccontextmanager
    async def write(self, tenant: TenantId) -> AsyncIterator[TenantSession]:
        """Open a transaction that changes one tenant's rows."""
        async with self.connection(is_write=True) as connection:
            yield TenantSession(connection, self.changes, tenant)

    async def counters(self) -> Mapping[str, int]:
        """Return every topic's change counter; a topic never changed is absent."""
        async with self.connection(is_write=False) as connection:
            found = await connection.execute(select(self.changes.c.topic, self.changes.c.counter))
            return {topic: counter for topic, counter in found.all()}  # noqa: C416  a row is no tuple of two to mypy

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()


def _engine(url: str, *, overwrites_deleted: bool, pool_size: int) -> AsyncEngine:
    if make_url(url).get_backend_name() != "sqlite":
        return create_async_engine(url, pool_size=pool_size, max_overflow=pool_size, pool_pre_ping=True)
    engine = create_async_engine(url, pool_size=pool_size, max_overflow=pool_size)

    @event.listens_for(engine.sync_engine, "connect")
    def _prepare(dbapi_connection: Any, _record: object) -> None:
        dbapi_connection.isolation_level = None  # we say BEGIN ourselves
        cursor = dbapi_connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")  # a committed act survives a power cut
        cursor.execute("PRAGMA foreign_keys=ON")
        if overwrites_deleted:
            cursor.execute("PRAGMA secure_delete=ON")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Connection) -> None:
        is_write = connection.get_execution_options().get(_WRITE, True)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")

    return engine
