"""Refresh tokens, and what has been revoked."""

import sqlalchemy as sa
from alembic import op

import maas_gateway.database.metadata

revision = "0007_main"
down_revision = "0006_main"
branch_labels = None
depends_on = None

_INDEXES = ("tenant_id", "subject_id", "family", "expires_at")


def upgrade() -> None:
    op.create_table(
        "refresh_tokens",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("subject_id", sa.Uuid(), nullable=False),
        sa.Column("family", sa.Uuid(), nullable=False),
        sa.Column("scope", sa.JSON(), nullable=False),
        sa.Column("expires_at", maas_gateway.database.metadata.UTCDateTime(timezone=True), nullable=False),
        sa.Column("spent_at", maas_gateway.database.metadata.UTCDateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_refresh_tokens")),
    )
    for column in _INDEXES:
        op.create_index(op.f(f"ix_refresh_tokens_{column}"), "refresh_tokens", [column])
    op.create_table(
        "revoked_tokens",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("until", maas_gateway.database.metadata.UTCDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_revoked_tokens")),
    )
    op.create_index(op.f("ix_revoked_tokens_until"), "revoked_tokens", ["until"])


def downgrade() -> None:
    op.drop_index(op.f("ix_revoked_tokens_until"), "revoked_tokens")
    op.drop_table("revoked_tokens")
    for column in reversed(_INDEXES):
        op.drop_index(op.f(f"ix_refresh_tokens_{column}"), "refresh_tokens")
    op.drop_table("refresh_tokens")
