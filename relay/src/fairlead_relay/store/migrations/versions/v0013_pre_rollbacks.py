"""
Deployments whose failure is rolled back: that it was asked for, by what it was done, and why it was not.

Revision: v0013_pre_rollbacks. Adds columns that the relay before it leaves at their defaults: a failure that such a
relay stores is not rolled back.
"""

import sqlalchemy as sa
from alembic import op

revision = "v0013"
down_revision = "v0012"


def upgrade() -> None:
    """Add the columns."""
    op.add_column(
        "deployments", sa.Column("rollback_on_failure", sa.Boolean(), server_default=sa.false(), nullable=False)
    )
    op.add_column("deployments", sa.Column("rollback_of", sa.Text(), nullable=True))
    op.add_column("deployments", sa.Column("rollback_skipped", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.create_index(
        "ix_deployments_rollback_of",
        "deployments",
        ["rollback_of"],
        sqlite_where=sa.text("rollback_of IS NOT NULL"),
        postgresql_where=sa.text("rollback_of IS NOT NULL"),
    )


def downgrade() -> None:
    """Remove them."""
    op.drop_index("ix_deployments_rollback_of", "deployments")
    for column in ("rollback_skipped", "rollback_of", "rollback_on_failure"):
        op.drop_column("deployments", column)
