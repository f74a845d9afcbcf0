"""Tables of this room."""

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    false,
)

from maas_gateway.database.metadata import METADATA, UTCDateTime

MODELS: Final = Table(
    "models",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Uuid, nullable=False),
    Column("name", String(128), nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
    UniqueConstraint("tenant_id", "name"),
)

MODEL_VERSIONS: Final = Table(
    "model_versions",
    METADATA,
    Column("model_id", Uuid, primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("tenant_id", Uuid, nullable=False, index=True),
    Column("stage", String(16), nullable=False),
    Column("format", String(32), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("signature", JSON, nullable=False),
    Column("findings", JSON, nullable=False),
    Column("plan", JSON, nullable=False),
    Column("other_plans", JSON(none_as_null=True)),
    Column("created_by", String(160), nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
    Column("manifest", Text),
    Column("manifest_key", String(64)),  # the id of the key that signed it
    Column("publisher", JSON(none_as_null=True)),
    Column("uploaders", JSON(none_as_null=True)),
    Column("release", JSON(none_as_null=True)),
    ForeignKeyConstraint(["model_id"], ["models.id"]),
)

ARTIFACTS: Final = Table(
    "artifacts",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Uuid, nullable=False),
    Column("model_id", Uuid, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("role", String(32), nullable=False),
    Column("plain_bytes", BigInteger, nullable=False),
    Column("sealed_bytes", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False, server_default=""),
    ForeignKeyConstraint(["model_id", "version"], ["model_versions.model_id", "model_versions.version"]),
    UniqueConstraint("model_id", "version", "role"),
)

LABELS: Final = Table(
    "labels",
    METADATA,
    Column("model_id", Uuid, primary_key=True),
    Column("label", String(64), primary_key=True),
    Column("tenant_id", Uuid, nullable=False),
    Column("version", BigInteger, nullable=False),
    ForeignKeyConstraint(["model_id", "version"], ["model_versions.model_id", "model_versions.version"]),
)

PUBLISHER_KEYS: Final = Table(
    "publisher_keys",
    METADATA,
    Column("tenant_id", Uuid, primary_key=True),
    Column("key_id", String(64), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("jwk", JSON, nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
    UniqueConstraint("tenant_id", "name"),
)

PUBLISHING_RULES: Final = Table(
    "publishing_rules",
    METADATA,
    Column("tenant_id", Uuid, primary_key=True),
    Column("requires_signature", Boolean, nullable=False),
    Column("requires_second_person", Boolean, nullable=False, server_default=false()),
)
