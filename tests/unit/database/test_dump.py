"""Dumps: what goes out comes back whole on either engine, and what is not whole does not come in at all."""

import asyncio
import base64
import hashlib
import json
import secrets
import tracemalloc
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Date,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Time,
    Uuid,
    event,
    func,
    insert,
    null,
    select,
    text,
)

from builders.gateways import SQLITE
from maas_gateway.database import dump
from maas_gateway.database.dump import BATCH, Standing, check_dump, load, snapshot
from maas_gateway.database.engine import Database
from maas_gateway.database.lines import FORMAT, check_lines, counted_lines, line_of, read_lines
from maas_gateway.database.metadata import (
    CHANGES,
    KEYS_CHANGES,
    KEYS_METADATA,
    METADATA,
    UTCDateTime,
    load_tables,
)
from maas_gateway.database.migrations import migrate
from maas_gateway.errors import GatewayError, IntegrityFailure, Misconfigured, NotFound
from services import PostgresServer

pytestmark = pytest.mark.anyio

load_tables()
NAMES = ["main", "keys"]
TABLES: Mapping[str, MetaData] = {"main": METADATA, "keys": KEYS_METADATA}
NOW = datetime(2026, 1, 1, 12, 0, 0, 123_456, tzinfo=UTC)
N_ROWS = 6

Row = dict[str, Any]
NewPlace = Callable[[str], str]


@pytest.fixture
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NewPlace]:
    """Gives the address of a database that is not there yet, on an engine."""
    made: list[str] = []

    def make(engine: str) -> str:
        name = f"dump_{secrets.token_hex(6)}"
        if engine == SQLITE:
            return f"sqlite+aiosqlite:///{tmp_path / name}.sqlite"
        server: PostgresServer = request.getfixturevalue("postgres")
        server.create(name)
        made.append(name)
        url: str = server.url(name)
        return url

    yield make
    if made:
        request.getfixturevalue("postgres").drop(*made)


ENGINES = [SQLITE, pytest.param("postgres", marks=pytest.mark.postgres)]
FROM_ONE_TO_THE_OTHER = [
    (SQLITE, SQLITE),
    pytest.param((SQLITE, "postgres"), marks=pytest.mark.postgres),
    pytest.param(("postgres", SQLITE), marks=pytest.mark.postgres),
    pytest.param(("postgres", "postgres"), marks=pytest.mark.postgres),
]


@asynccontextmanager
async def opened(url: str, name: str, *, is_migrated: bool = True) -> AsyncIterator[Database]:
    database = Database(url, CHANGES if name == "main" else KEYS_CHANGES)
    try:
        if is_migrated:
            await migrate(database, name)
        yield database
    finally:
        await database.close()
        await asyncio.sleep(0)


TIMES = (
    NOW,
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2026, 6, 1, 1, 2, 3, 1, tzinfo=timezone(timedelta(hours=5, minutes=30))),
)
DOCUMENTS: Sequence[object] = (
    JSON.NULL,
    {"b": [1.5, 1e-9, 2**53, None, True], "a": {"": "line\u2028end \U0001f511 \\ \" '"}},
    "a text",
    [],
    {"z": 1, "y": 2},
)
TEXTS = ("", "schön \U0001f511", "a\nb", "\"'", "\u2028", "Zz")
AWKWARD: Sequence[tuple[type, Callable[[int], Any]]] = (
    (UTCDateTime, lambda number: TIMES[number % 4]),
    (Date, lambda number: TIMES[number % 4].date() + timedelta(days=-number)),
    (Uuid, lambda number: uuid.UUID(int=[0, 2**128 - 1][number]) if number < 2 else uuid.uuid4()),
    (Boolean, lambda number: number % 2 == 0),
    (Integer, lambda number: number - 1 if number < N_ROWS - 1 else 2**31 - 1),
    (LargeBinary, lambda number: [b"", bytes(range(256)), bytes(32), b"\n\xff"][number % 4]),
    (JSON, lambda number: DOCUMENTS[number % 5]),
    (String, lambda number: f"{TEXTS[number % 6]}{number}"),
)
"""By type of column, values that are easily spoilt on their way, another one for each number."""


def awkward(column: Column[Any], number: int) -> Any:
    """Return a value for a column; a new type of column needs a line above, and a form in the dump."""
    if column.nullable and number == 0:
        return null() if isinstance(column.type, JSON) else None
    return next(make for kind, make in AWKWARD if isinstance(column.type, kind))(number)


def rows_for(metadata: MetaData) -> dict[Table, list[Row]]:
    """Return rows for every table, whatever tables there are, with the references that they need."""
    made: dict[Table, list[Row]] = {}
    for table in metadata.sorted_tables:
        made[table] = []
        for number in range(N_ROWS):
            row = {column.name: awkward(column, number) for column in table.columns}
            for constraint in table.foreign_key_constraints:
                parent = made[constraint.referred_table][number]
                row |= {e.parent.name: parent[e.column.name] for e in constraint.elements}
            made[table].append(row)
    return made


async def fill(database: Database, name: str) -> None:
    async with database.connection(is_write=True) as connection:
        for table, rows in rows_for(TABLES[name]).items():
            for row in rows:
                await connection.execute(insert(table), row)


async def content(database: Database, name: str) -> dict[str, list[str]]:
    """Return what a database holds, read by other means than the dump's."""
    found = {}
    async with database.connection(is_write=False) as connection:
        for table in TABLES[name].sorted_tables:
            nulls = [column.is_(null()).label(f"no {column.name}") for column in table.columns]
            rows = (await connection.execute(select(table, *nulls))).all()
            found[table.name] = sorted(repr(tuple(row)) for row in rows)
    return found


async def dumped(database: Database, name: str, path: Path) -> Path:
    async with snapshot(database, name) as moment:
        await moment.dump(path, at=NOW, tell=lambda _: None)
    return path


async def stands(database: Database, name: str, path: Path) -> Standing:
    async with snapshot(database, name) as moment:
        return await moment.standing(path)


async def is_empty(database: Database, name: str) -> bool:
    return not any((await content(database, name)).values())


@pytest.mark.parametrize("pair", FROM_ONE_TO_THE_OTHER, ids="-to-".join)
@pytest.mark.parametrize("name", NAMES)
async def test_every_column_comes_back_as_it_went_out(
    tmp_path: Path, new_place: NewPlace, pair: tuple[str, str], name: str
) -> None:
    source, target = (new_place(engine) for engine in pair)
    async with opened(source, name) as ours, opened(target, name) as theirs:
        await fill(ours, name)
        path = await dumped(ours, name, tmp_path / "one")
        n_rows = N_ROWS * len(TABLES[name].tables)
        assert check_dump(path, name).n_rows == n_rows
        told: list[int] = []
        await load(theirs, name, path, told.append)
        assert sum(told) == n_rows
        assert await content(theirs, name) == await content(ours, name)
        again = await dumped(theirs, name, tmp_path / "two")
        assert again.read_bytes() == path.read_bytes()
        assert await stands(theirs, name, path) is Standing.SAME


async def test_null_of_json_and_null_of_sql_stay_what_they_are(tmp_path: Path, new_place: NewPlace) -> None:
    table = KEYS_METADATA.tables["key_versions"]
    rows = [
        {**row, "public": public} for row, public in zip(rows_for(KEYS_METADATA)[table], (None, null()), strict=False)
    ]
    async with opened(new_place(SQLITE), "keys") as ours, opened(new_place(SQLITE), "keys") as theirs:
        async with ours.connection(is_write=True) as connection:
            for row in rows:
                await connection.execute(insert(table), row)
        await load(theirs, "keys", await dumped(ours, "keys", tmp_path / "dump"), lambda _: None)
        async with theirs.connection(is_write=False) as connection:
            found = await connection.execute(text("SELECT public IS NULL, public FROM key_versions ORDER BY 1"))
            assert [tuple(row) for row in found.all()] == [(0, "null"), (1, None)]


@pytest.mark.parametrize("column", [c for m in TABLES.values() for t in m.tables.values() for c in t.columns], ids=str)
def test_every_column_of_both_databases_has_a_form(column: Column[Any]) -> None:
    assert dump._form(column).name


def test_column_of_an_unknown_type_is_not_dumped_as_something_else() -> None:
    with pytest.raises(TypeError, match="no form for Time"):
        dump._form(Column("at", Time))


def _through_json(kind: Any, value: Any) -> Any:
    form = dump._form(Column("value", kind))
    return form.read(json.loads(line_of(form.spelt(value))))


@given(
    st.one_of(
        st.tuples(st.just(UTCDateTime), st.datetimes(timezones=st.just(UTC))),
        st.tuples(st.just(Uuid), st.uuids()),
        st.tuples(st.just(Boolean), st.booleans()),
        st.tuples(st.just(Integer), st.integers(-(2**63), 2**63 - 1)),
        st.tuples(st.just(Float), st.floats(allow_nan=False)),
        st.tuples(st.just(LargeBinary), st.binary()),
        st.tuples(st.just(String), st.text()),
    )
)
def test_any_value_comes_back_through_its_form(case: tuple[Any, Any]) -> None:
    kind, value = case
    assert _through_json(kind, value) == value


@pytest.mark.parametrize("engine", ENGINES)
async def test_dump_is_of_one_moment_while_others_write(tmp_path: Path, new_place: NewPlace, engine: str) -> None:
    async with opened(new_place(engine), "main") as database:
        await fill(database, "main")
        async with snapshot(database, "main") as moment:
            n_rows = await moment.count()
            async with database.connection(is_write=True) as connection:
                await connection.execute(insert(CHANGES).values(topic="later", counter=1))
                await connection.execute(text("DELETE FROM labels"))
            await moment.dump(tmp_path / "dump", at=NOW, tell=lambda _: None)
            assert check_dump(tmp_path / "dump", "main").n_rows == n_rows
        assert b"later" not in (tmp_path / "dump").read_bytes()


@pytest.mark.parametrize("engine", ENGINES)
async def test_standing_tells_empty_from_same_from_other(tmp_path: Path, new_place: NewPlace, engine: str) -> None:
    async with AsyncExitStack() as stack:
        full = await stack.enter_async_context(opened(new_place(engine), "keys"))
        bare = await stack.enter_async_context(opened(new_place(engine), "keys", is_migrated=False))
        await fill(full, "keys")
        path = await dumped(full, "keys", tmp_path / "dump")
        assert await stands(full, "keys", path) is Standing.SAME
        assert await stands(bare, "keys", path) is Standing.EMPTY
        await migrate(bare, "keys")
        assert await stands(bare, "keys", path) is Standing.EMPTY
        for change in ("UPDATE changes SET counter = counter - 1", "DELETE FROM data_keys", "DELETE FROM changes"):
            async with full.connection(is_write=True) as connection:
                await connection.execute(text(change))
            assert await stands(full, "keys", path) is Standing.OTHER


async def test_database_of_an_older_schema_with_rows_is_other_and_cannot_be_dumped(
    tmp_path: Path, new_place: NewPlace
) -> None:
    async with opened(new_place(SQLITE), "keys") as database:
        await fill(database, "keys")
        path = await dumped(database, "keys", tmp_path / "dump")
        async with database.connection(is_write=True) as connection:
            await connection.execute(text("UPDATE alembic_version SET version_num = '0000_earlier'"))
        assert await stands(database, "keys", path) is Standing.OTHER
        with pytest.raises(Misconfigured, match="run: maas-gateway database upgrade"):
            await dumped(database, "keys", tmp_path / "second")


@pytest.mark.parametrize("engine", ENGINES)
async def test_database_with_rows_takes_no_more(tmp_path: Path, new_place: NewPlace, engine: str) -> None:
    async with opened(new_place(engine), "keys") as database:
        await fill(database, "keys")
        path = await dumped(database, "keys", tmp_path / "dump")
        async with database.connection(is_write=True) as connection:
            await connection.execute(text("DELETE FROM data_keys"))
        before = await content(database, "keys")
        with pytest.raises(Misconfigured, match="the keys database is not empty"):
            await load(database, "keys", path, lambda _: None)
        assert await content(database, "keys") == before


def _counted(lines: Sequence[bytes]) -> bytes:
    """Return lines with a last line that counts them rightly."""
    end = line_of({"lines": len(lines), "sha256": hashlib.sha256(b"".join(lines)).hexdigest()})
    return b"".join([*lines, end])


SPOILT: dict[str, Callable[[list[bytes]], bytes]] = {
    "without its last byte": lambda lines: b"".join(lines)[:-1],
    "without half of its last line": lambda lines: b"".join(lines)[: -len(lines[-1]) // 2],
    "without its last line": lambda lines: b"".join(lines[:-1]),
    "cut between two lines": lambda lines: b"".join(lines[: len(lines) // 2]),
    "cut within a line": lambda lines: b"".join(lines[: len(lines) // 2])[:-7],
    "cut behind its first line": lambda lines: lines[0],
    "cut behind its first line, with the last one": lambda lines: lines[0] + lines[-1],
    "with a byte behind its end": lambda lines: b"".join(lines) + b"\n",
    "with a second end": lambda lines: b"".join(lines) + lines[-1],
    "with a row less": lambda lines: b"".join(lines[:3] + lines[4:]),
    "with a row twice": lambda lines: b"".join(lines[:3] + lines[2:]),
    "with two rows swapped": lambda lines: b"".join([*lines[:2], lines[3], lines[2], *lines[4:]]),
    "with a digit changed": lambda lines: b"".join(lines).replace(b"0000-0000-", b"0000-0001-", 1),
    "with a byte that is no UTF-8": lambda lines: b"".join([*lines[:2], b"\xff" + lines[2], *lines[3:]]),
    "with another program in its first line": lambda lines: b"".join(lines).replace(b'"program":"', b'"program":"1', 1),
    "with white space": lambda lines: b"".join(lines).replace(b",", b", ", 1),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT.keys())
async def test_dump_that_is_cut_or_altered_is_refused_and_nothing_is_written(
    tmp_path: Path, new_place: NewPlace, spoil: Callable[[list[bytes]], bytes]
) -> None:
    async with opened(new_place(SQLITE), "keys") as ours, opened(new_place(SQLITE), "keys") as theirs:
        await fill(ours, "keys")
        path = await dumped(ours, "keys", tmp_path / "dump")
        spoilt = spoil(path.read_bytes().splitlines(keepends=True))
        assert spoilt != path.read_bytes()
        path.write_bytes(spoilt)
        with pytest.raises(IntegrityFailure):
            check_dump(path, "keys")
        with pytest.raises(IntegrityFailure):
            await load(theirs, "keys", path, lambda _: None)
        assert await is_empty(theirs, "keys")


def _without_a_table(lines: list[bytes]) -> list[bytes]:
    starts = [n for n, line in enumerate(lines) if line.startswith(b'{"table"')]
    return lines[: starts[1]] + lines[starts[2] :]


MISSHAPEN: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "a table is missing": _without_a_table,
    "the last table is missing": lambda lines: lines[: max(i for i, li in enumerate(lines) if li[:1] == b"{")],
    "every table is missing": lambda lines: lines[:1],
    "a table comes twice": lambda lines: lines + lines[1:],
    "rows come before any table": lambda lines: [lines[0], lines[-1], *lines[1:-1]],
    "a column has another name": lambda lines: [line.replace(b'"nonce":', b'"once":') for line in lines],
    "a column has another form": lambda lines: [line.replace(b'"nonce":"bytes"', b'"nonce":"text"') for line in lines],
    "a row is too short": lambda lines: [*lines[:2], b'["topic"]\n', *lines[2:]],
    "a row is too long": lambda lines: [*lines[:2], b'["topic",1,2]\n', *lines[2:]],
    "a row has a value of another form": lambda lines: [*lines[:2], b'["topic",[]]\n', *lines[2:]],
    "a row has no value where one must be": lambda lines: [*lines[:2], b'["topic",null]\n', *lines[2:]],
    "a row comes twice": lambda lines: lines[:3] + lines[2:],
    "a line is a text": lambda lines: [*lines[:2], b'"text"\n', *lines[2:]],
    "a line is null": lambda lines: [*lines, b"null\n"],
    "a line is no JSON": lambda lines: [*lines[:2], b"[1,\n", *lines[2:]],
    "an identifier is a number": lambda lines: [
        b"[5" + line[line.index(b",") :] if line.startswith(b'["ffffffff') else line for line in lines
    ],
    "a time has no zone": lambda lines: [line.replace(b"+00:00", b"") for line in lines],
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shape", MISSHAPEN.values(), ids=MISSHAPEN.keys())
async def test_rightly_counted_lines_that_are_no_such_database_are_refused_and_nothing_is_written(
    tmp_path: Path, new_place: NewPlace, engine: str, shape: Callable[[list[bytes]], list[bytes]]
) -> None:
    async with opened(new_place(SQLITE), "keys") as ours, opened(new_place(engine), "keys") as theirs:
        await fill(ours, "keys")
        path = await dumped(ours, "keys", tmp_path / "dump")
        lines = path.read_bytes().splitlines(keepends=True)[:-1]
        assert shape(lines) != lines
        path.write_bytes(_counted(shape(lines)))
        with pytest.raises((IntegrityFailure, Misconfigured)):
            await load(theirs, "keys", path, lambda _: None)
        assert await is_empty(theirs, "keys")


def _head(**changes: object) -> bytes:
    head = {"format": FORMAT, "part": "keys", "revision": dump._newest("keys"), "program": "0.1.0", "at": "now"}
    return _counted([line_of({**head, **changes})])


@pytest.mark.parametrize(
    ("content", "error", "sentence"),
    [
        pytest.param(_head(format=2, program="9.0"), Misconfigured, "restore it with maas-gateway 9.0", id="format 2"),
        pytest.param(_head(part="main"), IntegrityFailure, "holds 'main', not 'keys'", id="another database"),
        pytest.param(_head(part=["keys"]), IntegrityFailure, "not 'keys'", id="a part that is a list"),
        pytest.param(
            _head(revision="0009_keys", program="9.0"),
            Misconfigured,
            "of schema 0009_keys, made by maas-gateway 9.0",
            id="a newer schema",
        ),
        pytest.param(_head(revision=None), Misconfigured, "of schema None", id="no schema"),
        pytest.param(b"", IntegrityFailure, "no part of a backup", id="an empty file"),
        pytest.param(b"[1, 2]\n", IntegrityFailure, "no part of a backup", id="a list"),
        pytest.param(b"{}\n", IntegrityFailure, "no part of a backup", id="an object without anything"),
        pytest.param(b"\xff" * 10_000, IntegrityFailure, "no part of a backup", id="bytes without a line's end"),
        pytest.param(b"SQLite format 3\x00" * 9, IntegrityFailure, "no part of a backup", id="a database file"),
    ],
)
def test_what_is_no_dump_of_this_schema_is_refused_in_a_sentence(
    tmp_path: Path, content: bytes, error: type[GatewayError], sentence: str
) -> None:
    path = tmp_path / "dump"
    path.write_bytes(content)
    with pytest.raises(error) as caught:
        check_dump(path, "keys")
    assert sentence in caught.value.detail
    assert str(path) in caught.value.detail


def test_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"there is no .*/none"):
        check_dump(tmp_path / "none", "keys")


async def test_text_that_the_other_engine_cannot_keep_is_refused_and_nothing_is_written(
    tmp_path: Path, new_place: NewPlace, postgres_url: str
) -> None:
    """SQLite does not look at lengths, PostgreSQL does."""
    async with opened(new_place(SQLITE), "main") as ours, opened(postgres_url, "main") as theirs:
        await fill(ours, "main")
        async with ours.connection(is_write=True) as connection:
            await connection.execute(insert(CHANGES).values(topic="t" * 41, counter=1))
        path = await dumped(ours, "main", tmp_path / "dump")
        with pytest.raises(Misconfigured, match="does not take the rows") as caught:
            await load(theirs, "main", path, lambda _: None)
        assert "t" * 41 not in caught.value.detail
        assert await is_empty(theirs, "main")


@pytest.mark.parametrize("engine", ENGINES)
async def test_no_more_than_a_batch_is_in_memory_or_in_one_statement(
    tmp_path: Path, new_place: NewPlace, engine: str
) -> None:
    n_rows, n_bytes_each = 12 * BATCH + 7, 3_000
    table = METADATA.tables["audit_records"]
    blank = rows_for(METADATA)[table][2]
    async with opened(new_place(engine), "main") as ours, opened(new_place(engine), "main") as theirs:
        async with ours.connection(is_write=True) as connection:
            for start in range(0, n_rows, BATCH):
                rows = [
                    {**blank, "number": number, "detail": {"text": secrets.token_hex(n_bytes_each // 2)}}
                    for number in range(start, min(start + BATCH, n_rows))
                ]
                await connection.execute(insert(table), rows)
        sizes: list[int] = []

        @event.listens_for(theirs.engine.sync_engine, "before_cursor_execute")
        def _note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
            if statement.startswith("INSERT"):
                sizes.append(len(parameters))

        told: list[int] = []
        peaks = []
        tracemalloc.start()
        try:
            path = await dumped(ours, "main", tmp_path / "dump")
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.reset_peak()
            await load(theirs, "main", path, told.append)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert path.stat().st_size > n_rows * n_bytes_each
        assert max(peaks) < n_rows * n_bytes_each / 2, peaks
        assert (max(sizes), sum(told)) == (BATCH, n_rows)


async def test_deleted_row_is_in_no_dump(tmp_path: Path, new_place: NewPlace) -> None:
    async with opened(new_place(SQLITE), "keys") as database:
        await fill(database, "keys")
        secret = secrets.token_bytes(48)
        table = KEYS_METADATA.tables["data_keys"]
        row = {**rows_for(KEYS_METADATA)[table][3], "artifact_id": uuid.uuid4(), "ciphertext": secret}
        async with database.connection(is_write=True) as connection:
            await connection.execute(insert(table), row)
        assert base64.b64encode(secret) in (await dumped(database, "keys", tmp_path / "with")).read_bytes()
        async with database.connection(is_write=True) as connection:
            await connection.execute(table.delete().where(table.c.ciphertext == secret))
        found = (await dumped(database, "keys", tmp_path / "without")).read_bytes()
        assert base64.b64encode(secret) not in found
        assert secret not in found


def test_counted_lines_are_private_and_ended_only_when_all_went_well(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    with counted_lines(path, "blobs", at=NOW) as write:
        write({"table": "things"})
        write(["one", 1])
    assert path.stat().st_mode & 0o777 == 0o600
    written = check_lines(path, "blobs")
    assert (written.n_rows, written.n_bytes, written.head["part"]) == (1, path.stat().st_size, "blobs")
    assert list(read_lines(path)) == [b'{"table":"things"}\n', b'["one",1]\n']
    with pytest.raises(FileExistsError), counted_lines(path, "blobs", at=NOW):
        pass
    assert check_lines(path, "blobs") == written

    def fail() -> None:
        with counted_lines(tmp_path / "second", "blobs", at=NOW) as write:
            write(["one", 1])
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        fail()
    with pytest.raises(IntegrityFailure, match="cut or altered"):
        check_lines(tmp_path / "second", "blobs")


async def test_rows_of_every_tenant_are_counted(new_place: NewPlace) -> None:
    async with opened(new_place(SQLITE), "main") as database:
        await fill(database, "main")
        async with snapshot(database, "main") as moment, database.connection(is_write=False) as connection:
            counted = [
                (await connection.execute(select(func.count()).select_from(t))).scalar_one()
                for t in METADATA.sorted_tables
            ]
            assert await moment.count() == sum(counted) == N_ROWS * len(METADATA.tables)
