"""Tables of this room."""

from typing import Final

from sqlalchemy import JSON, Column, Integer, LargeBinary, String, Table, Uuid

from maas_gateway.database.metadata import METADATA, UTCDateTime

AUDIT_RECORDS: Final = Table(
    "audit_records",
    METADATA,
    Column("tenant_id", Uuid, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", UTCDateTime, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("actor", String(160), nullable=False),
    Column("thing", String(400), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("reason", String(64)),
    Column("detail", JSON, nullable=False),
    Column("n_times", Integer, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
)

AUDIT_HEADS: Final = Table(
    "audit_heads",
    METADATA,
    Column("tenant_id", Uuid, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
)
