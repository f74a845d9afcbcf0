"""Tables of this room."""

from typing import Final

from sqlalchemy import Column, String, Table, Uuid

from maas_gateway.database.metadata import METADATA, UTCDateTime

TENANTS: Final = Table(
    "tenants",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("slug", String(39), nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
)
