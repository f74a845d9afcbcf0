"""Tables of this room."""

from typing import Final

from sqlalchemy import JSON, Column, String, Table, Uuid

from maas_gateway.database.metadata import METADATA, UTCDateTime

REFRESH_TOKENS: Final = Table(
    "refresh_tokens",
    METADATA,
    Column("digest", String(64), primary_key=True),
    Column("tenant_id", Uuid, nullable=False, index=True),
    Column("subject_id", Uuid, nullable=False, index=True),
    Column("family", Uuid, nullable=False, index=True),
    Column("scope", JSON, nullable=False),
    Column("expires_at", UTCDateTime, nullable=False, index=True),
    Column("spent_at", UTCDateTime),
)

REVOKED_TOKENS: Final = Table(
    "revoked_tokens",
    METADATA,
    Column("id", String(64), primary_key=True),  # of an access token, or of the family that it comes from
    Column("tenant_id", Uuid, nullable=False),
    Column("until", UTCDateTime, nullable=False, index=True),
)
