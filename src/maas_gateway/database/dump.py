"""A database's rows in a file and back, whichever engine: what SQLite held goes into PostgreSQL, and the reverse.

Layout: a file of counted lines (`database.lines`). What a value's JSON stands for, its column's form says.

    {"format": 1, "part": "keys", "revision": "0001_keys", …}          the schema's revision
    {"table": "key_versions", "columns": {"tenant_id": "uuid", …}}     every table, what others refer to first
    ["6f9c…", "artifacts", 3, null, …]                                 its rows by primary key, values by column

Rules: the tables and their columns are the metadata's, so that a new one is dumped without a word
here; a dump is one moment of the database, read while others write; a deleted row is in none. What
was cut, altered, or made of another schema is refused before anything is written; rows go into a
database without rows, all in one transaction. Neither direction holds more than a batch in memory.

A dump sees every tenant's rows; who may make one stands in the import contracts.
"""

import base64
import json
import uuid
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum, auto
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, Final

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Date,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    Uuid,
    cast,
    collate,
    insert,
    inspect,
    literal,
    null,
    select,
    text,
)
from sqlalchemy.exc import StatementError
from sqlalchemy.ext.asyncio import AsyncConnection

from maas_gateway import __version__
from maas_gateway.database.engine import Database
from maas_gateway.database.lines import Written, check_lines, counted_lines, line_of, read_lines
from maas_gateway.database.metadata import KEYS_METADATA, METADATA, UTCDateTime, load_tables
from maas_gateway.database.migrations import alembic_config
from maas_gateway.database.sessions import UnscopedSession
from maas_gateway.errors import IntegrityFailure, Misconfigured

BATCH: Final = 500
"""Rows that are in memory at once, and that one statement inserts."""
_METADATA: Final[Mapping[str, MetaData]] = {"main": METADATA, "keys": KEYS_METADATA}
_ONE_MOMENT = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")

Tell = Callable[[int], None]
"""Is told how many more rows are done."""


@dataclass(frozen=True, slots=True)
class _Form:
    """How one kind of column is spelt.

    Attributes:
        name: stands in the dump.
        spelt: from the database's value, never None, to JSON's.
        read: the way back.
    """

    name: str
    spelt: Callable[[Any], object]
    read: Callable[[Any], Any]


def _read_json(value: list[Any]) -> Any:
    return JSON.NULL if value[0] is None else value[0]


_FORMS: Final[tuple[tuple[type, _Form], ...]] = (
    (UTCDateTime, _Form("time", datetime.isoformat, datetime.fromisoformat)),
    (Date, _Form("date", date.isoformat, date.fromisoformat)),
    (Uuid, _Form("uuid", str, uuid.UUID)),
    (Boolean, _Form("boolean", bool, bool)),
    (Integer, _Form("integer", int, int)),
    (Float, _Form("number", float, float)),
    (LargeBinary, _Form("bytes", lambda value: base64.b64encode(value).decode(), base64.b64decode)),
    (JSON, _Form("json", lambda value: [json.loads(value)], _read_json)),  # [null] is JSON's, null is SQL's
    (String, _Form("text", str, str)),
)


class Standing(Enum):
    """How a database stands to a dump that is to go into it."""

    EMPTY = auto()
    """It has no rows."""
    SAME = auto()
    """It has exactly the dump's rows."""
    OTHER = auto()
    """It has other rows."""


class Snapshot:
    """One moment of a database, in an open transaction. It sees every tenant's rows.

    Attributes:
        session: reads at that moment.
    """

    def __init__(self, connection: AsyncConnection, database: Database, name: str) -> None:
        self.session = UnscopedSession(connection, database.changes)
        self._connection = connection
        self._name = name

    async def count(self) -> int:
        """Return how many rows there are."""
        return sum([await self.session.count(table) for table in _METADATA[self._name].sorted_tables])

    async def dump(self, path: Path, *, at: datetime, tell: Tell) -> None:
        """Write every row into a new file; one that was not finished is refused when it is read.

        Raises:
            Misconfigured: the database is not at this program's schema.
        """
        await self._connection.run_sync(_dump, self._name, path, at=at, tell=tell)

    async def standing(self, path: Path) -> Standing:
        """Tell how the database stands to a dump that `check_dump` has passed."""
        return await self._connection.run_sync(_standing, self._name, path)


@asynccontextmanager
async def snapshot(database: Database, name: str) -> AsyncIterator[Snapshot]:
    """Hold one moment of the database `name`, "main" or "keys", while others write.

    Raises:
        Unavailable: the database does not answer.
    """
    load_tables()
    async with database.connection(is_write=False) as connection:
        if not database.is_sqlite:  # there, a read transaction sees one moment anyhow
            await connection.execute(_ONE_MOMENT)
        yield Snapshot(connection, database, name)


def check_dump(path: Path, name: str) -> Written:
    """Read a dump to its end; return what it says of itself.

    Raises:
        NotFound: there is no such file.
        IntegrityFailure: it is cut, altered, or no dump of that database.
        Misconfigured: it is of another format or schema than this program's.
    """
    written = check_lines(path, name)
    revision, program = written.head.get("revision"), written.head["program"]
    if revision != _newest(name):
        raise Misconfigured(
            f"{path} is of schema {revision}, made by maas-gateway {program}, and this is {__version__}, of schema "
            f"{_newest(name)}; restore it with {program}, then run this version's: maas-gateway database upgrade"
        )
    return written


async def load(database: Database, name: str, path: Path, tell: Tell) -> None:
    """Write a dump's rows into a database at this program's schema and without rows: all of them or none.

    Raises:
        IntegrityFailure: the dump is cut, altered, or does not hold what it says.
        Misconfigured: the dump is of another schema, or the database has rows, or does not take these.
        Unavailable: the database does not answer.
    """
    load_tables()
    check_dump(path, name)
    try:
        async with database.connection(is_write=True) as connection:
            await connection.run_sync(_load, name, path, tell)
    except StatementError as cause:
        raise Misconfigured(f"the {name} database does not take the rows of {path}; none was written") from cause


def _dump(connection: Connection, name: str, path: Path, *, at: datetime, tell: Tell) -> None:
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision != _newest(name):
        raise Misconfigured(f"the {name} database is not at this version's schema; run: maas-gateway database upgrade")
    n_rows = 0
    with counted_lines(path, name, at=at, revision=revision) as write:
        for value in _content(connection, name):
            write(value)
            n_rows += isinstance(value, list)
            if isinstance(value, list) and n_rows % BATCH == 0:
                tell(BATCH)
    tell(n_rows % BATCH)


def _standing(connection: Connection, name: str, path: Path) -> Standing:
    tables = _METADATA[name].sorted_tables
    there = set(inspect(connection).get_table_names())
    if not any(table.name in there and _has_rows(connection, table) for table in tables):
        return Standing.EMPTY
    if MigrationContext.configure(connection).get_current_revision() != _newest(name):
        return Standing.OTHER
    with closing(_content(connection, name)) as content:
        pairs = zip_longest(map(line_of, content), read_lines(path))
        return Standing.SAME if all(ours == theirs for ours, theirs in pairs) else Standing.OTHER


def _content(connection: Connection, name: str) -> Generator[object]:
    """Yield what a dump holds between its first and its last line; always in the same order."""
    for table in _METADATA[name].sorted_tables:
        yield _heading(table)
        forms = [_form(column) for column in table.columns]
        ordered = select(*map(_selected, table.columns)).order_by(*_order(table, connection))
        with connection.execute(ordered, execution_options={"yield_per": BATCH}) as rows:
            for row in rows:
                yield [None if v is None else form.spelt(v) for form, v in zip(forms, row, strict=True)]


def _load(connection: Connection, name: str, path: Path, tell: Tell) -> None:
    tables = _METADATA[name].sorted_tables
    if any(_has_rows(connection, table) for table in tables):
        raise Misconfigured(f"the {name} database is not empty")
    try:
        for table, rows in _batches(tables, map(json.loads, read_lines(path))):
            connection.execute(insert(table), rows)
            tell(len(rows))
    except (ValueError, TypeError, LookupError, AttributeError) as cause:
        raise IntegrityFailure(f"{path} does not hold the rows of this schema") from cause


def _batches(tables: Sequence[Table], content: Iterable[Any]) -> Iterator[tuple[Table, list[dict[str, Any]]]]:
    """Yield rows to insert, batch by batch, of all tables in their order."""
    headings = [*map(_heading, tables), None]
    number, batch = -1, list[dict[str, Any]]()
    read: Callable[[Sequence[Any]], dict[str, Any]] = _no_row
    for value in chain(content, [None]):
        if batch and (len(batch) == BATCH or not isinstance(value, list)):
            yield tables[number], batch
            batch = []
        if isinstance(value, list):
            batch.append(read(value))
            continue
        number += 1
        if value != headings[number]:
            raise ValueError("another table, or other columns")
        read = _no_row if value is None else _reader(tables[number])


def _no_row(_values: Sequence[Any]) -> dict[str, Any]:
    raise ValueError("a row of no table")


def _reader(table: Table) -> Callable[[Sequence[Any]], dict[str, Any]]:
    """Return what makes a row to insert of a row of the dump."""
    columns = []
    for column in table.columns:
        absent = null() if isinstance(column.type, JSON) else None  # None would be JSON's null to a JSON column
        columns.append((column.name, _form(column).read, absent))

    def read(values: Sequence[Any]) -> dict[str, Any]:
        pairs = zip(columns, values, strict=True)
        return {name: absent if value is None else form(value) for (name, form, absent), value in pairs}

    return read


def _heading(table: Table) -> Mapping[str, object]:
    return {"table": table.name, "columns": {column.name: _form(column).name for column in table.columns}}


def _form(column: Column[Any]) -> _Form:
    for kind, form in _FORMS:
        if isinstance(column.type, kind):
            return form
    raise TypeError(f"a dump has no form for {column.type!r} of {column}")


def _selected(column: Column[Any]) -> ColumnElement[Any]:
    """Return what is read: of JSON the text, because a driver gives None both for its null and for SQL's."""
    return cast(column, Text) if isinstance(column.type, JSON) else column


def _order(table: Table, connection: Connection) -> list[ColumnElement[Any]]:
    """Return the primary key, its texts by code point on every engine."""
    by_bytes = connection.dialect.name != "sqlite"
    return [collate(c, "C") if by_bytes and isinstance(c.type, String) else c for c in table.primary_key.columns]


def _has_rows(connection: Connection, table: Table) -> bool:
    return connection.execute(select(literal(1)).select_from(table).limit(1)).first() is not None


def _newest(name: str) -> str | None:
    return ScriptDirectory.from_config(alembic_config(name)).get_current_head()
