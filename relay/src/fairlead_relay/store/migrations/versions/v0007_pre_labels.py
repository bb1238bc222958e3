"""
Labels of clusters, applications and environments.

Revision: v0007_pre_labels. Adds a table that the relay before it does not know.
"""

import sqlalchemy as sa
from alembic import op

revision = "v0007"
down_revision = "v0006"


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "labels",
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("application", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('application', 'cluster', 'environment')", name=op.f("ck_labels_kind")),
        sa.ForeignKeyConstraint(["organization"], ["organizations.name"], name=op.f("fk_labels_organization")),
        sa.PrimaryKeyConstraint("organization", "kind", "application", "name", name=op.f("pk_labels")),
    )


def downgrade() -> None:
    """Remove it."""
    op.drop_table("labels")
