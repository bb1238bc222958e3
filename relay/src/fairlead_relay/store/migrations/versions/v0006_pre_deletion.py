"""
Environments that were deleted: their rows stay, for the history that refers to them, and their names can be used again.

Revision: v0006_pre_deletion. Adds only, so the relay before it goes on working; it shows deleted environments.
"""

import sqlalchemy as sa
from alembic import op

revision = "v0006"
down_revision = "v0005"


def upgrade() -> None:
    """Add the column."""
    op.add_column("environments", sa.Column("deleted_at", sa.Double(), nullable=True))


def downgrade() -> None:
    """Remove it."""
    op.drop_column("environments", "deleted_at")
