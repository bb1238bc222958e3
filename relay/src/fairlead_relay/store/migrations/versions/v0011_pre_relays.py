"""
The relays that share the store, and how far each has counted.

Revision: v0011_pre_relays. Adds a table that the relay before it does not know.
"""

import sqlalchemy as sa
from alembic import op

revision = "v0011"
down_revision = "v0010"


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "relays",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("beat", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_relays")),
    )


def downgrade() -> None:
    """Remove it."""
    op.drop_table("relays")
