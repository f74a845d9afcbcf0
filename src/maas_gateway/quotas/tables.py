"""Tables of this room."""

from typing import Final

from sqlalchemy import JSON, BigInteger, Column, Date, Index, String, Table, UniqueConstraint, Uuid

from maas_gateway.database.metadata import METADATA

_MODEL: Final = 200  # a shared model's name has its owner's slug before it

QUOTAS: Final = Table(
    "quotas",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Uuid, nullable=False),
    Column("subject", String(36), nullable=False),  # "" for all: NULL would escape the unique constraint
    Column("model", String(_MODEL), nullable=False),  # the same
    Column("share", String(36), nullable=False),  # the same
    Column("quota", JSON, nullable=False),
    UniqueConstraint("tenant_id", "subject", "model", "share"),
)

BUDGETS: Final = Table(
    "budgets",
    METADATA,
    Column("tenant_id", Uuid, primary_key=True),
    Column("holder", Uuid, primary_key=True),  # a principal, or a share
    Column("model", String(_MODEL), primary_key=True),
    Column("spent_rows", BigInteger, nullable=False),
)

USAGE: Final = Table(
    "usage",
    METADATA,
    Column("tenant_id", Uuid, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("subject_id", Uuid, primary_key=True),
    Column("model", String(_MODEL), primary_key=True),
    Column("owner_id", Uuid, nullable=False),
    Column("own_name", String(128), nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("compute_us", BigInteger, nullable=False),
    Index("ix_usage_owner", "owner_id", "day"),
)
