"""Tables of this room."""

from typing import Final

from sqlalchemy import JSON, Column, Integer, String, Table, Uuid

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

SIGN_IN_ATTEMPTS: Final = Table(
    "sign_in_attempts",
    METADATA,
    Column("key", String(64), primary_key=True),  # a digest of an account, an address or both; no tenant, as made up
    Column("n_failed", Integer, nullable=False),
    Column("last_at", UTCDateTime, nullable=False, index=True),
)

SIGN_IN_ADDRESSES: Final = Table(
    "sign_in_addresses",
    METADATA,
    Column("pair", String(64), primary_key=True),  # a digest of the account and the address
    Column("tenant_id", Uuid, nullable=False, index=True),
    Column("subject_id", Uuid, nullable=False, index=True),
    Column("last_at", UTCDateTime, nullable=False, index=True),
)
