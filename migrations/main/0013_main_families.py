"""Sign-ins as rows of their own, and how often an account's secret was replaced."""

import sqlalchemy as sa
from alembic import op

import maas_gateway.database.metadata

revision = "0013_main"
down_revision = "0012_main"
branch_labels = None
depends_on = None

_ACCOUNTS = ("users", "service_accounts")


def upgrade() -> None:
    for table in _ACCOUNTS:
        op.add_column(table, sa.Column("generation", sa.Integer(), nullable=False, server_default="0"))
    op.create_table(
        "refresh_families",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("subject_id", sa.Uuid(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("expires_at", maas_gateway.database.metadata.UTCDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refresh_families")),
    )
    for column in ("tenant_id", "subject_id", "expires_at"):
        op.create_index(op.f(f"ix_refresh_families_{column}"), "refresh_families", [column])
    op.execute(
        "INSERT INTO refresh_families (id, tenant_id, subject_id, generation, expires_at) "
        "SELECT family, tenant_id, subject_id, 0, MAX(expires_at) FROM refresh_tokens "
        "GROUP BY family, tenant_id, subject_id"
    )


def downgrade() -> None:
    for column in ("expires_at", "subject_id", "tenant_id"):
        op.drop_index(op.f(f"ix_refresh_families_{column}"), "refresh_families")
    op.drop_table("refresh_families")
    for table in reversed(_ACCOUNTS):
        op.drop_column(table, "generation")
