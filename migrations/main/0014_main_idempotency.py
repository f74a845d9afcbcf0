"""Requests that say which request they are."""

import sqlalchemy as sa
from alembic import op

import maas_gateway.database.metadata

revision = "0014_main"
down_revision = "0013_main"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "idempotent_requests",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("attempt", sa.Uuid(), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("began_at", maas_gateway.database.metadata.UTCDateTime(timezone=True), nullable=False),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "digest", name=op.f("pk_idempotent_requests")),
    )
    op.create_index(op.f("ix_idempotent_requests_began_at"), "idempotent_requests", ["began_at"])


def downgrade() -> None:
    op.drop_index(op.f("ix_idempotent_requests_began_at"), "idempotent_requests")
    op.drop_table("idempotent_requests")
