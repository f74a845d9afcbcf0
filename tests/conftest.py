"""What all tests share. Async tests say `pytestmark = pytest.mark.anyio`; they run on asyncio.

- `running_gateway(folder, database=…, **settings)` (`builders.gateways`): a whole gateway in this process.
- `database_url`: "sqlite", then the URL of a fresh PostgreSQL database, so that a test runs on both engines. The latter
  has this version's schema already; `empty_database_url` has none.
- `postgres_url`: an empty PostgreSQL database only. `postgres`: the server.
- `lines`: what the test logs, to look for what must not be there.
- `demo`: the seed network, trained and converted once a test session; `published_model` (`builders.models`) serves it.
"""

import asyncio
import logging
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from builders.gateways import SQLITE
from builders.logs import Lines
from builders.models import DemoModel, demo_model
from maas_gateway.database.engine import Database
from maas_gateway.database.metadata import CHANGES, KEYS_CHANGES
from maas_gateway.database.migrations import migrate
from services import PostgresServer, ValkeyServer

OF_TEST_ONLY = ("browser", "postgres", "services", "thorough")
"""Markers of unit tests that `make check` leaves to `make test`."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what the Makefile says when one call of make has run `check` just before."""
    parser.addoption("--after-check", action="store_true", help="leave out what `make check` has run just before")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs PostgreSQL and nothing else (`database_url` marks its own half); leave out what has been run."""
    for item in items:
        if "postgres_url" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.postgres)
    if config.getoption("--after-check"):
        again = [item for item in items if not _is_of_check(item)]
        config.hook.pytest_deselected(items=[item for item in items if _is_of_check(item)])
        items[:] = again


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Say which test has loaded TensorFlow: its libcrypto and that of SoftHSM in one process end it."""
    if "tensorflow" in sys.modules and not item.get_closest_marker("loads_tensorflow"):
        pytest.fail("this test loads TensorFlow into the process of all tests; have a program of its own do that")


def _is_of_check(item: pytest.Item) -> bool:
    room = item.path.relative_to(Path(__file__).parent).parts[0]
    return room in {"unit", "structure"} and not any(item.get_closest_marker(name) for name in OF_TEST_ONLY)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this test session share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if base.name.startswith("popen-") else base


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real PostgreSQL, one for each worker that needs one."""
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyServer]:
    """A real Valkey, one for each worker that needs one."""
    server = ValkeyServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def schema(postgres: PostgresServer) -> str:
    """A database of this version's schema without a row, to be copied; its key store `<name>_keys` is there too."""
    name = "maas_schema"
    postgres.create(name, f"{name}_keys")
    asyncio.run(_migrate(postgres.url(name), postgres.url(f"{name}_keys")))
    return name


async def _migrate(main_url: str, keys_url: str) -> None:
    for url, changes, name in ((main_url, CHANGES, "main"), (keys_url, KEYS_CHANGES, "keys")):
        database = Database(url, changes)
        await migrate(database, name)
        await database.close()


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """The URL of an empty database; its key store `<name>_keys` is there too."""
    yield from _fresh_database(postgres)


on_both_engines = pytest.fixture(
    params=[pytest.param(SQLITE, id="sqlite"), pytest.param("postgres", id="postgres", marks=pytest.mark.postgres)]
)


@on_both_engines
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """What `running_gateway` takes as its database: each engine in turn."""
    if request.param == SQLITE:
        yield SQLITE
    else:
        yield from _fresh_database(request.getfixturevalue("postgres"), request.getfixturevalue("schema"))


@on_both_engines
def empty_database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """As `database_url`, before anything has migrated it."""
    if request.param == SQLITE:
        yield SQLITE
    else:
        yield from _fresh_database(request.getfixturevalue("postgres"))


@pytest.fixture(scope="session")
def demo(shared_folder: Path) -> DemoModel:
    """The seed network, trained and converted once a test session (about 15 s for the first worker)."""
    return asyncio.run(demo_model(shared_folder))


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    """Log lines of a test; afterwards they go where they went before."""
    before = structlog.get_config()
    written = Lines(capsys)
    handler = logging.StreamHandler(written.others)
    logging.getLogger().addHandler(handler)
    yield written
    logging.getLogger().removeHandler(handler)
    structlog.configure(**before)


def _fresh_database(server: PostgresServer, like: str | None = None) -> Iterator[str]:
    """Yield the URL of an empty database, or of a copy of that one."""
    name = f"maas_{secrets.token_hex(6)}"
    if like is None:
        server.create(name, f"{name}_keys")
    else:
        server.copy(**{name: like, f"{name}_keys": f"{like}_keys"})
    yield server.url(name)
    server.drop(name, f"{name}_keys")
