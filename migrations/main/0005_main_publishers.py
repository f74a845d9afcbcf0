"""Publishers' keys, whether a tenant demands their signatures, and who signed a version."""

import sqlalchemy as sa
from alembic import op

import maas_gateway.database.metadata

revision = "0005_main"
down_revision = "0004_main"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "publisher_keys",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("jwk", sa.JSON(), nullable=False),
        sa.Column("created_at", maas_gateway.database.metadata.UTCDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "key_id", name=op.f("pk_publisher_keys")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_publisher_keys_tenant_id")),
    )
    op.create_table(
        "publishing_rules",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("requires_signature", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("pk_publishing_rules")),
    )
    op.add_column("model_versions", sa.Column("publisher", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    op.drop_column("model_versions", "publisher")
    op.drop_table("publishing_rules")
    op.drop_table("publisher_keys")
