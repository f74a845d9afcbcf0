"""Identity providers: other issuers whose tokens a tenant takes."""

import sqlalchemy as sa
from alembic import op

import maas_gateway.database.metadata

revision = "0009_main"
down_revision = "0008_main"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "identity_providers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("issuer", sa.String(length=255), nullable=False),
        sa.Column("audience", sa.String(length=255), nullable=False),
        sa.Column("claim", sa.String(length=128), nullable=False),
        sa.Column("rules", sa.JSON(), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", maas_gateway.database.metadata.UTCDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_identity_providers")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_identity_providers_tenant_id")),
        sa.UniqueConstraint("issuer", "audience", name=op.f("uq_identity_providers_issuer")),
    )


def downgrade() -> None:
    op.drop_table("identity_providers")
