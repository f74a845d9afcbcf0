"""Operations say what they exclude, so that the database keeps two of one subject apart."""

import sqlalchemy as sa
from alembic import op

revision = "0002_main"
down_revision = "0001_main"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("operations") as table:
        table.add_column(sa.Column("thing", sa.String(length=400), nullable=False, server_default=""))
        table.add_column(sa.Column("exclusive", sa.String(length=160), nullable=True))
        table.create_unique_constraint(op.f("uq_operations_tenant_id"), ["tenant_id", "exclusive"])


def downgrade() -> None:
    with op.batch_alter_table("operations") as table:
        table.drop_constraint(op.f("uq_operations_tenant_id"))
        table.drop_column("exclusive")
        table.drop_column("thing")
