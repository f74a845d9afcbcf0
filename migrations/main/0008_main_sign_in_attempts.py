"""Failed sign-ins, and where accounts usually sign in from."""

import sqlalchemy as sa
from alembic import op

import maas_gateway.database.metadata

revision = "0008_main"
down_revision = "0007_main"
branch_labels = None
depends_on = None

_INDEXES = ("tenant_id", "subject_id", "last_at")


def upgrade() -> None:
    op.create_table(
        "sign_in_attempts",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("n_failed", sa.Integer(), nullable=False),
        sa.Column("last_at", maas_gateway.database.metadata.UTCDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_sign_in_attempts")),
    )
    op.create_index(op.f("ix_sign_in_attempts_last_at"), "sign_in_attempts", ["last_at"])
    op.create_table(
        "sign_in_addresses",
        sa.Column("pair", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("subject_id", sa.Uuid(), nullable=False),
        sa.Column("last_at", maas_gateway.database.metadata.UTCDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("pair", name=op.f("pk_sign_in_addresses")),
    )
    for column in _INDEXES:
        op.create_index(op.f(f"ix_sign_in_addresses_{column}"), "sign_in_addresses", [column])


def downgrade() -> None:
    for column in reversed(_INDEXES):
        op.drop_index(op.f(f"ix_sign_in_addresses_{column}"), "sign_in_addresses")
    op.drop_table("sign_in_addresses")
    op.drop_index(op.f("ix_sign_in_attempts_last_at"), "sign_in_attempts")
    op.drop_table("sign_in_attempts")
