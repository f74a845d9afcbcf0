"""How Alembic reaches the two databases: `alembic -n main …` and `alembic -n keys …`.

The gateway itself hands over an open connection; from the command line the settings' own databases
are used.
"""

import asyncio

from alembic import context
from sqlalchemy import Connection

from maas_gateway.database.engine import Database
from maas_gateway.database.metadata import CHANGES, KEYS_CHANGES, KEYS_METADATA, METADATA, load_tables

load_tables()
NAME = context.config.attributes.get("database") or context.config.config_ini_section
TARGET = KEYS_METADATA if NAME == "keys" else METADATA


def run(connection: Connection) -> None:
    """Run the migrations on an open connection."""
    context.configure(connection=connection, target_metadata=TARGET, render_as_batch=True, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()


async def run_on(url: str) -> None:
    """Run the migrations on the database at `url`."""
    database = Database(url, KEYS_CHANGES if NAME == "keys" else CHANGES)
    async with database.connection(is_write=True) as connection:
        await connection.run_sync(run)
    await database.close()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    from maas_gateway.settings import load_settings

    settings = load_settings()
    asyncio.run(run_on(settings.keys_url if NAME == "keys" else settings.main_url))
