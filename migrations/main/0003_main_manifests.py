"""A signed manifest for each version, a digest for each artifact."""

import sqlalchemy as sa
from alembic import op

revision = "0003_main"
down_revision = "0002_main"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("model_versions", sa.Column("manifest", sa.Text(), nullable=True))
    op.add_column("model_versions", sa.Column("manifest_key", sa.String(length=64), nullable=True))
    op.add_column("artifacts", sa.Column("digest", sa.String(length=64), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("artifacts", "digest")
    op.drop_column("model_versions", "manifest_key")
    op.drop_column("model_versions", "manifest")
