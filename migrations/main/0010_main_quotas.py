"""Quotas, lifetime budgets, usage, shares."""

import sqlalchemy as sa
from alembic import op

import maas_gateway.database.metadata

revision = "0010_main"
down_revision = "0009_main"
branch_labels = None
depends_on = None

_MODEL = 200


def upgrade() -> None:
    op.create_table(
        "quotas",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("subject", sa.String(length=36), nullable=False),
        sa.Column("model", sa.String(length=_MODEL), nullable=False),
        sa.Column("share", sa.String(length=36), nullable=False),
        sa.Column("quota", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quotas")),
        sa.UniqueConstraint("tenant_id", "subject", "model", "share", name=op.f("uq_quotas_tenant_id")),
    )
    op.create_table(
        "budgets",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("holder", sa.Uuid(), nullable=False),
        sa.Column("model", sa.String(length=_MODEL), nullable=False),
        sa.Column("spent_rows", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "holder", "model", name=op.f("pk_budgets")),
    )
    op.create_table(
        "usage",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("subject_id", sa.Uuid(), nullable=False),
        sa.Column("model", sa.String(length=_MODEL), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("own_name", sa.String(length=128), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("compute_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "day", "subject_id", "model", name=op.f("pk_usage")),
    )
    op.create_index("ix_usage_owner", "usage", ["owner_id", "day"])
    op.create_table(
        "shares",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("model", sa.String(length=128), nullable=False),
        sa.Column("consumer_id", sa.Uuid(), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", maas_gateway.database.metadata.UTCDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shares")),
        sa.UniqueConstraint("tenant_id", "model", "consumer_id", name=op.f("uq_shares_tenant_id")),
    )
    op.create_index(op.f("ix_shares_consumer_id"), "shares", ["consumer_id"])
    with op.batch_alter_table("role_bindings") as batch:
        batch.alter_column("model", existing_type=sa.String(length=128), type_=sa.String(length=_MODEL))


def downgrade() -> None:
    with op.batch_alter_table("role_bindings") as batch:
        batch.alter_column("model", existing_type=sa.String(length=_MODEL), type_=sa.String(length=128))
    op.drop_index(op.f("ix_shares_consumer_id"), "shares")
    op.drop_index("ix_usage_owner", "usage")
    for table in ("shares", "usage", "budgets", "quotas"):
        op.drop_table(table)
