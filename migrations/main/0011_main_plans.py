"""Further forms in which a version can be served."""

import sqlalchemy as sa
from alembic import op

revision = "0011_main"
down_revision = "0010_main"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("model_versions", sa.Column("other_plans", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    op.drop_column("model_versions", "other_plans")
