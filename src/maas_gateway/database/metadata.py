"""The two databases' metadata, and column types that mean the same on SQLite and PostgreSQL.

`METADATA` is the main database; `KEYS_METADATA` the key store, which has an engine, a file and a
backup life of its own. Each room declares its tables in its own `tables` module with string
foreign keys; `load_tables` imports them all for migrations and tests.
"""

import importlib
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Column, DateTime, Integer, MetaData, String, Table
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.types import TypeDecorator

_NAMES: Final = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
_ROOMS: Final = (
    "tenants",
    "accounts",
    "auth",
    "operations",
    "idempotency",
    "workers",
    "audit",
    "keyring",
    "quotas",
    "registry",
)

METADATA: Final = MetaData(naming_convention=_NAMES)
KEYS_METADATA: Final = MetaData(naming_convention=_NAMES)


class UTCDateTime(TypeDecorator[datetime]):
    """An aware time in UTC; SQLite forgets the zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a naive time; store UTC."""
        del dialect
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a stored time must be aware")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return an aware time."""
        del dialect
        return None if value is None else value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _changes(metadata: MetaData) -> Table:
    return Table(
        "changes",
        metadata,
        Column("topic", String(40), primary_key=True),
        Column("counter", Integer, nullable=False),
    )


CHANGES: Final = _changes(METADATA)
"""One counter a topic, raised in the transaction that changes it: how other processes notice."""

KEYS_CHANGES: Final = _changes(KEYS_METADATA)


def load_tables() -> None:
    """Import every room's `tables`, so that both metadata are whole."""
    for room in _ROOMS:
        importlib.import_module(f"maas_gateway.{room}.tables")
