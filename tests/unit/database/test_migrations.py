"""Both schemas on both engines: they come up, hold what the tables say, and refuse what a newer program made."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.command import check, upgrade
from sqlalchemy import Connection, inspect, text

from builders.gateways import SQLITE, gateway_settings
from maas_gateway.auth import store
from maas_gateway.auth.tables import REFRESH_FAMILIES, REFRESH_TOKENS
from maas_gateway.database.engine import Database
from maas_gateway.database.metadata import CHANGES, KEYS_CHANGES, KEYS_METADATA, METADATA, load_tables
from maas_gateway.database.migrations import alembic_config, is_current, migrate
from maas_gateway.errors import Misconfigured
from maas_gateway.identifiers import PLATFORM
from maas_gateway.place import migrate_all, prepare

pytestmark = pytest.mark.anyio

NAMES = ["main", "keys"]


@asynccontextmanager
async def opened(folder: Path, url: str, name: str) -> AsyncIterator[Database]:
    settings = gateway_settings(folder, url)
    settings.data_dir.mkdir(exist_ok=True)
    changes, address = (CHANGES, settings.main_url) if name == "main" else (KEYS_CHANGES, settings.keys_url)
    database = Database(address, changes)
    yield database
    await database.close()


@pytest.mark.parametrize("name", NAMES)
async def test_empty_database_comes_up_once(tmp_path: Path, empty_database_url: str, name: str) -> None:
    async with opened(tmp_path, empty_database_url, name) as database:
        assert not await is_current(database, name)
        assert await migrate(database, name)
        assert await is_current(database, name)
        assert not await migrate(database, name)


@pytest.mark.parametrize("name", NAMES)
async def test_migrations_make_what_the_tables_say(tmp_path: Path, empty_database_url: str, name: str) -> None:
    """What `alembic check` does: it raises if a new migration would have anything to do."""
    load_tables()
    async with opened(tmp_path, empty_database_url, name) as database:
        await migrate(database, name)

        def compare(connection: Connection) -> set[str]:
            config = alembic_config(name)
            config.attributes["connection"] = connection
            check(config)
            return set(inspect(connection).get_table_names())

        async with database.connection(is_write=True) as connection:
            found = await connection.run_sync(compare)
    metadata = METADATA if name == "main" else KEYS_METADATA
    assert found == {*metadata.tables, "alembic_version"}


async def test_sign_ins_from_before_they_had_rows_of_their_own_go_on(tmp_path: Path, empty_database_url: str) -> None:
    family = uuid.uuid4()
    async with opened(tmp_path, empty_database_url, "main") as database:

        def upgrade_to_before(connection: Connection) -> None:
            config = alembic_config("main")
            config.attributes["connection"] = connection
            upgrade(config, "0011_main")

        async with database.connection(is_write=True) as connection:
            await connection.run_sync(upgrade_to_before)
        async with database.write(PLATFORM) as session:
            for digest, day in (("a", 1), ("b", 1)):
                ends = datetime(2026, 12, day, tzinfo=UTC)
                of = {"subject_id": family, "family": family, "scope": [], "expires_at": ends}
                await session.insert(REFRESH_TOKENS, digest=digest, **of)
        assert await migrate(database, "main")
        async with database.write(PLATFORM) as session:
            assert await store.lock_family(session, family) == 0
            (row,) = await session.rows(REFRESH_FAMILIES)
        assert (row["subject_id"], row["expires_at"]) == (family, datetime(2026, 12, 1, tzinfo=UTC))


@pytest.mark.parametrize("name", NAMES)
async def test_drift_is_found(tmp_path: Path, empty_database_url: str, name: str) -> None:
    """The check above is worth something: a table more than there should be makes it fail."""
    async with opened(tmp_path, empty_database_url, name) as database:
        await migrate(database, name)
        async with database.connection(is_write=True) as connection:
            await connection.execute(text("CREATE TABLE stray (id INTEGER)"))

        def compare(connection: Connection) -> None:
            config = alembic_config(name)
            config.attributes["connection"] = connection
            check(config)

        with pytest.raises(Exception, match="New upgrade operations detected"):
            async with database.connection(is_write=True) as connection:
                await connection.run_sync(compare)


@pytest.mark.parametrize("name", NAMES)
async def test_database_of_a_newer_program_is_refused_and_left_as_it_is(
    tmp_path: Path, empty_database_url: str, name: str
) -> None:
    async with opened(tmp_path, empty_database_url, name) as database:
        await migrate(database, name)
        async with database.connection(is_write=True) as connection:
            await connection.execute(text("UPDATE alembic_version SET version_num = '9999_later'"))
        with pytest.raises(Misconfigured) as caught:
            await migrate(database, name)
        assert caught.value.detail == (
            f"the {name} database is at revision 9999_later, which a newer maas-gateway made; start that version instead"
        )
        assert not await is_current(database, name)
        async with database.connection(is_write=False) as connection:
            found = await connection.execute(text("SELECT version_num FROM alembic_version"))
            assert found.scalar_one() == "9999_later"


async def test_newer_database_stops_a_start(tmp_path: Path, empty_database_url: str) -> None:
    settings = gateway_settings(tmp_path, empty_database_url)
    await prepare(settings, makes_root_key=True)
    assert not await migrate_all(settings)
    async with (
        opened(tmp_path, empty_database_url, "keys") as database,
        database.connection(is_write=True) as connection,
    ):
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999_later'"))
    with pytest.raises(Misconfigured, match="newer maas-gateway"):
        await prepare(settings, makes_root_key=True)


async def test_start_without_a_root_key_is_refused_where_none_may_be_made(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="there is no root key"):
        await prepare(gateway_settings(tmp_path), makes_root_key=False)


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("postgresql+asyncpg://nobody:hunter2@127.0.0.1:9/none", id="a port where nobody listens"),
        pytest.param("sqlite+aiosqlite:////nowhere/at/all.sqlite", id="a folder that does not exist"),
    ],
)
async def test_database_that_cannot_be_opened_is_told_in_a_sentence(url: str) -> None:
    database = Database(url, CHANGES)
    with pytest.raises(Misconfigured) as caught:
        await migrate(database, "main")
    assert caught.value.detail.startswith("the main database cannot be opened: ")
    assert "hunter2" not in caught.value.detail
    assert "\n" not in caught.value.detail
    await database.close()
    await asyncio.sleep(0.05)  # the driver's thread takes its leave of the loop


async def test_missing_postgres_database_is_told_in_a_sentence(postgres_url: str) -> None:
    database = Database(postgres_url + "_gone", CHANGES)
    with pytest.raises(Misconfigured, match="does not exist"):
        await migrate(database, "main")
    await database.close()


async def test_key_store_lies_apart(tmp_path: Path, empty_database_url: str) -> None:
    settings = gateway_settings(tmp_path, empty_database_url)
    assert settings.main_url != settings.keys_url
    if empty_database_url != SQLITE:
        assert settings.keys_url == settings.main_url + "_keys"
