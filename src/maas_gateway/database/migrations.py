"""Bring a database to the schema of this program, or say why not.

Rules: an empty or older database is upgraded; one that a newer program has upgraded is refused
and left as it is. The scripts lie in `migrations/main` and `migrations/keys`.
"""

from collections.abc import Callable
from typing import TypeVar

from alembic.command import upgrade
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from maas_gateway.database.engine import Database
from maas_gateway.errors import Misconfigured, Unavailable
from maas_gateway.resources import resource

_LOCK = 0x6D616173
"""The advisory lock that two starting processes queue on ("maas")."""

T = TypeVar("T")


def alembic_config(name: str) -> Config:
    """Return Alembic's configuration for the database `name`, "main" or "keys"."""
    config = Config()
    folder = resource("migrations")
    config.set_main_option("script_location", str(folder))
    config.set_main_option("version_locations", str(folder / name))
    config.set_main_option("path_separator", "newline")
    config.attributes["database"] = name
    return config


async def is_current(database: Database, name: str) -> bool:
    """Tell whether a database is at this program's schema.

    Raises:
        Misconfigured: it cannot be opened.
    """
    head = ScriptDirectory.from_config(alembic_config(name)).get_current_head()

    def look(connection: Connection) -> bool:
        return MigrationContext.configure(connection).get_current_revision() == head

    return await _run(database, name, look, is_write=False)


async def revision(database: Database, name: str) -> str | None:
    """Return the schema that a database has; None for one that is empty.

    Raises:
        Misconfigured: it cannot be opened.
    """

    def look(connection: Connection) -> str | None:
        return MigrationContext.configure(connection).get_current_revision()

    return await _run(database, name, look, is_write=False)


async def migrate(database: Database, name: str) -> bool:
    """Upgrade `database` to this program's schema.

    Returns:
        Whether anything had to be done.

    Raises:
        Misconfigured: the database was made by a newer program.
    """
    config = alembic_config(name)
    head = ScriptDirectory.from_config(config).get_current_head()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}

    def step(connection: Connection) -> bool:
        if connection.dialect.name == "postgresql":  # SQLite's BEGIN IMMEDIATE already queues two starts
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        found = MigrationContext.configure(connection).get_current_revision()
        if found is not None and found not in known:
            raise Misconfigured(
                f"the {name} database is at revision {found}, which a newer maas-gateway made; start that version instead"
            )
        if found == head:
            return False
        config.attributes["connection"] = connection
        upgrade(config, "head")
        return True

    return await _run(database, name, step, is_write=True)


async def _run(database: Database, name: str, step: Callable[[Connection], T], *, is_write: bool) -> T:
    try:
        async with database.connection(is_write=is_write) as connection:
            return await connection.run_sync(step)
    except (DBAPIError, Unavailable) as cause:
        raise Misconfigured(f"the {name} database cannot be opened: {_first_line(cause)}") from cause


def _first_line(cause: BaseException) -> str:
    if isinstance(cause, Unavailable) and cause.__cause__ is not None:
        cause = cause.__cause__
    text = str(getattr(cause, "orig", None) or cause)
    return text.splitlines()[0] if text else type(cause).__name__
