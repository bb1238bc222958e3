"""
What agents reported last of objects that are no longer as their deployment left them.

Revision: v0012_pre_drifts. Adds a table that the relay before it does not know: an environment that this one deletes
keeps its row, which nobody is shown.
"""

import sqlalchemy as sa
from alembic import op

revision = "v0012"
down_revision = "v0011"


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "drifts",
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("application", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("bundle_sha256", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("objects", sa.Integer(), nullable=False),
        sa.Column("since", sa.Double(), nullable=True),
        sa.Column("report", sa.Text(), nullable=False),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization", "application", "environment"],
            ["environments.organization", "environments.application", "environments.name"],
            name=op.f("fk_drifts_organization_application_environment"),
        ),
        sa.PrimaryKeyConstraint("organization", "application", "environment", name=op.f("pk_drifts")),
    )


def downgrade() -> None:
    """Remove it."""
    op.drop_table("drifts")
