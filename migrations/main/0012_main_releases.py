"""Who uploaded a version and who released it, whether a tenant asks for a second person, to whom a secret was told."""

import sqlalchemy as sa
from alembic import op

revision = "0012_main"
down_revision = "0011_main"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("model_versions", sa.Column("uploaders", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("model_versions", sa.Column("release", sa.JSON(none_as_null=True), nullable=True))
    op.add_column(
        "publishing_rules",
        sa.Column("requires_second_person", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    for table in ("users", "service_accounts", "api_keys"):
        op.add_column(table, sa.Column("told_to", sa.Uuid(), nullable=True))


def downgrade() -> None:
    for table in ("api_keys", "service_accounts", "users"):
        op.drop_column(table, "told_to")
    op.drop_column("publishing_rules", "requires_second_person")
    op.drop_column("model_versions", "release")
    op.drop_column("model_versions", "uploaders")
