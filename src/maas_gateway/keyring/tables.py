"""Tables of this room, in the key store's own database."""

from typing import Final

from sqlalchemy import JSON, Column, Index, Integer, LargeBinary, String, Table, Uuid

from maas_gateway.database.metadata import KEYS_METADATA, UTCDateTime

KEY_VERSIONS: Final = Table(
    "key_versions",
    KEYS_METADATA,
    Column("tenant_id", Uuid, primary_key=True),
    Column("purpose", String(32), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("state", String(16), nullable=False),
    Column("root_version", Integer, nullable=False),
    Column("wrapped", LargeBinary(512)),  # of a root version: its proof; NULL once destroyed
    Column("public", JSON),
    Column("created_at", UTCDateTime, nullable=False),
    Column("changed_at", UTCDateTime, nullable=False),
)

DATA_KEYS: Final = Table(
    "data_keys",
    KEYS_METADATA,
    Column("artifact_id", Uuid, primary_key=True),
    Column("tenant_id", Uuid, nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("key_version", Integer, nullable=False),
    Column("nonce", LargeBinary(12), nullable=False),
    Column("context", LargeBinary(32), nullable=False),
    Column("ciphertext", LargeBinary(48), nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
    Index("ix_data_keys_version", "tenant_id", "purpose", "key_version"),
)
