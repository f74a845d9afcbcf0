"""Tables of this room."""

from typing import Final

from sqlalchemy import JSON, Boolean, Column, Index, Integer, String, Table, UniqueConstraint, Uuid

from maas_gateway.database.metadata import METADATA, UTCDateTime

USERS: Final = Table(
    "users",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Uuid, nullable=False),  # no foreign key: the platform's operators have no tenant row
    Column("name", String(63), nullable=False),
    Column("password_hash", String(255), nullable=False),
    Column("is_enabled", Boolean, nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
    Column("told_to", Uuid),  # the account to which its password was told; NULL once it has one of its own
    Column("generation", Integer, nullable=False, server_default="0"),
    UniqueConstraint("tenant_id", "name"),
)

SERVICE_ACCOUNTS: Final = Table(
    "service_accounts",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Uuid, nullable=False),
    Column("client_id", String(64), nullable=False, unique=True),
    Column("name", String(63), nullable=False),
    Column("secret_digest", String(64), nullable=False),
    Column("is_enabled", Boolean, nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
    Column("told_to", Uuid),  # the account to which its secret was told last
    Column("generation", Integer, nullable=False, server_default="0"),
    UniqueConstraint("tenant_id", "name"),
)

API_KEYS: Final = Table(
    "api_keys",
    METADATA,
    Column("id", String(16), primary_key=True),
    Column("tenant_id", Uuid, nullable=False, index=True),
    Column("subject_id", Uuid, nullable=False),
    Column("name", String(63), nullable=False),
    Column("permissions", JSON, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("former_digest", String(64), nullable=False),  # "" for none
    Column("former_until", UTCDateTime),
    Column("expires_at", UTCDateTime),
    Column("is_enabled", Boolean, nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
    Column("told_to", Uuid),  # the account to which its secret was told last, if that is not its own
)

SHARES: Final = Table(
    "shares",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Uuid, nullable=False),  # the owner
    Column("model", String(128), nullable=False),
    Column("consumer_id", Uuid, nullable=False, index=True),
    Column("is_enabled", Boolean, nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
    UniqueConstraint("tenant_id", "model", "consumer_id"),
)

ROLE_BINDINGS: Final = Table(
    "role_bindings",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Uuid, nullable=False),
    Column("subject_id", Uuid, nullable=False),
    Column("role", String(32), nullable=False),
    Column("model", String(200), nullable=False),  # "" for the whole tenant: NULL would escape the unique constraint
    UniqueConstraint("tenant_id", "subject_id", "role", "model"),
    Index("ix_role_bindings_subject", "subject_id"),
)
