"""One database: its engine, its transactions, its change counters.

Rules: a write transaction on SQLite begins IMMEDIATE, so that two writers queue instead of
failing half-way, and those of one process take turns, first come, first served: SQLite's own queue is
none, its writers look again after a pause and any of them may be the last; it runs in WAL mode with
foreign keys on, and waits for another process as long as a disk may stall; the key store also
overwrites what it deletes (`secure_delete`). A database that does not answer is `Unavailable`; a text
with a NUL character, which PostgreSQL cannot keep, is refused on both engines alike. What a statement
was given stands in no error's text, because errors are logged.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from sqlalchemy import Connection, Table, event, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from maas_gateway.database.sessions import TenantSession
from maas_gateway.errors import InvalidRequest, Unavailable
from maas_gateway.identifiers import TenantId

_WRITE = "maas_write"
_BUSY_TIMEOUT_S = 30
_PURGE_ATTEMPTS = 50
_PURGE_PAUSE_S = 0.1
_NO_ANSWER = "the database does not answer"
_SQLITE_OUTAGES = ("SQLITE_BUSY", "SQLITE_CANTOPEN", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_LOCKED", "SQLITE_READONLY")
_POSTGRES_OUTAGES = ("08", "53", "57P")  # classes of SQLSTATE: connection, resources, operator intervention


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
        self._writer = asyncio.Lock()

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file of this machine."""
        return self.engine.dialect.name == "sqlite"

    @asynccontextmanager
    async def connection(self, *, is_write: bool) -> AsyncIterator[AsyncConnection]:
        """Open a transaction: committed on leaving, rolled back on an exception.

        Raises:
            Unavailable: the database does not answer, or not in time.
        """
        async with AsyncExitStack() as stack:
            if is_write and self.is_sqlite:
                await stack.enter_async_context(self._turn())
            opened = await self._connected(stack)
            connection = await opened.execution_options(**{_WRITE: is_write})
            try:
                async with connection.begin():
                    yield connection
            except DBAPIError as cause:
                if _is_outage(cause):
                    raise Unavailable(_NO_ANSWER) from cause
                raise

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

    async def purge(self) -> None:
        """Have deleted bytes leave the write-ahead log too, where there is one of our own (SQLite); safe to repeat."""
        if self.engine.dialect.name != "sqlite":
            return
        async with self.engine.connect() as opened:
            driver: Any = (await opened.get_raw_connection()).driver_connection  # outside any transaction
            for _ in range(_PURGE_ATTEMPTS):
                is_busy, *_ = await (await driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")).fetchone()
                if not is_busy:
                    return
                await asyncio.sleep(_PURGE_PAUSE_S)  # a reader still looks at the old pages
        raise Unavailable("deleted bytes are still in the write-ahead log; readers keep it open", retry_after_s=5)

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Have one writer of this process at a time; whoever waits for it holds no connection."""
        try:
            async with asyncio.timeout(_BUSY_TIMEOUT_S):
                await self._writer.acquire()
        except TimeoutError as cause:
            raise Unavailable(_NO_ANSWER) from cause
        try:
            yield
        finally:
            self._writer.release()

    async def _connected(self, stack: AsyncExitStack) -> AsyncConnection:
        try:
            return await stack.enter_async_context(self.engine.connect())
        except (OSError, PoolTimeout, DBAPIError) as cause:  # whatever keeps it from being opened
            raise Unavailable(_NO_ANSWER) from cause


def _read_json(text: str | bytes) -> Any:
    """Return what a text says; what is no JSON says null, so that one broken row does not hide all others."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def _engine(url: str, *, overwrites_deleted: bool, pool_size: int) -> AsyncEngine:
    is_sqlite = make_url(url).get_backend_name() == "sqlite"
    engine = create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=not is_sqlite,
        hide_parameters=True,
        json_deserializer=_read_json,
    )
    event.listen(engine.sync_engine, "before_cursor_execute", _refuse_nul)
    if not is_sqlite:
        return engine

    @event.listens_for(engine.sync_engine, "connect")
    def _prepare(dbapi_connection: Any, _record: object) -> None:
        dbapi_connection.isolation_level = None  # we say BEGIN ourselves
        cursor = dbapi_connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_S * 1000}")
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


def _refuse_nul(_connection: Connection, _cursor: object, _statement: str, parameters: Any, *_: object) -> None:
    values = parameters.values() if isinstance(parameters, Mapping) else parameters
    if any(isinstance(value, str) and "\x00" in value for value in values or ()):
        raise InvalidRequest("a name holds a NUL character")


def _is_outage(error: DBAPIError) -> bool:
    if error.connection_invalidated:
        return True
    sqlite_name = getattr(error.orig, "sqlite_errorname", None) or ""
    state = getattr(error.orig, "sqlstate", None) or ""
    return sqlite_name.startswith(_SQLITE_OUTAGES) or state.startswith(_POSTGRES_OUTAGES)
