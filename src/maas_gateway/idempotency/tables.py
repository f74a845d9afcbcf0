"""Tables of this room."""

from typing import Final

from sqlalchemy import Column, String, Table, Text, Uuid

from maas_gateway.database.metadata import METADATA, UTCDateTime

IDEMPOTENT_REQUESTS: Final = Table(
    "idempotent_requests",
    METADATA,
    Column("tenant_id", Uuid, primary_key=True),
    Column("digest", String(64), primary_key=True),  # of the caller and the key
    Column("attempt", Uuid, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("began_at", UTCDateTime, nullable=False, index=True),
    Column("answer", Text),  # sealed under the key; NULL until there is one
)
