"""
When the newest certificate of an agent counts as made, also if it was never seen.

Revision: v0009_pre_issued. Adds a column that the relay before it leaves at its default.
"""

import sqlalchemy as sa
from alembic import op

revision = "v0009"
down_revision = "v0008"


def upgrade() -> None:
    """Add the column."""
    op.add_column("agents", sa.Column("issued_from", sa.Double(), server_default=sa.text("0"), nullable=False))


def downgrade() -> None:
    """Remove it."""
    op.drop_column("agents", "issued_from")
