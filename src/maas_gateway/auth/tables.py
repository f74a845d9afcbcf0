"""Tables of this room."""

from typing import Final

from sqlalchemy import JSON, Boolean, Column, Integer, String, Table, UniqueConstraint, Uuid

from maas_gateway.database.metadata import METADATA, UTCDateTime

REFRESH_FAMILIES: Final = Table(
    "refresh_families",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Uuid, nullable=False, index=True),
    Column("subject_id", Uuid, nullable=False, index=True),
    Column("generation", Integer, nullable=False),  # the account's when it signed in
    Column("expires_at", UTCDateTime, nullable=False, index=True),
)

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

IDENTITY_PROVIDERS: Final = Table(
    "identity_providers",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Uuid, nullable=False),
    Column("name", String(63), nullable=False),
    Column("issuer", String(255), nullable=False),
    Column("audience", String(255), nullable=False),
    Column("claim", String(128), nullable=False),
    Column("rules", JSON, nullable=False),
    Column("is_enabled", Boolean, nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
    UniqueConstraint("tenant_id", "name"),
    UniqueConstraint("issuer", "audience"),  # over all tenants: a token says whose principal its bearer is
)
