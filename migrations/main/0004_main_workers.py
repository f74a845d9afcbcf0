"""Worker processes and their leases; what an operation came to."""

import sqlalchemy as sa
from alembic import op

import maas_gateway.database.metadata

revision = "0004_main"
down_revision = "0003_main"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "workers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("registry", sa.BigInteger(), nullable=False),
        sa.Column("keyring", sa.BigInteger(), nullable=False),
        sa.Column("leased_until", maas_gateway.database.metadata.UTCDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )
    op.add_column("operations", sa.Column("result", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("operations", "result")
    op.drop_table("workers")
