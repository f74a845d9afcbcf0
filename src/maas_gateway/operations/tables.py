"""Tables of this room."""

from typing import Final

from sqlalchemy import JSON, Column, Integer, String, Table, UniqueConstraint, Uuid

from maas_gateway.database.metadata import METADATA, UTCDateTime

MAX_ERROR: Final = 500

OPERATIONS: Final = Table(
    "operations",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Uuid, nullable=False, index=True),
    Column("kind", String(32), nullable=False),
    Column("subject", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("done", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    Column("error", String(MAX_ERROR)),
    Column("actor", String(128), nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
    Column("leased_until", UTCDateTime, nullable=False),
    Column("thing", String(400), nullable=False, server_default=""),
    Column("exclusive", String(160)),  # NULL once it has ended: then it excludes none
    Column("result", JSON),
    UniqueConstraint("tenant_id", "exclusive"),
)
