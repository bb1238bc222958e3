"""
Plans: what a job of kind `plan` offers its agent.

Revision: v0010_pre_plans. Adds a table that the relay before it does not know: its rows go with the jobs and bundles
that they name, which that relay forgets after a rollback.
"""

import sqlalchemy as sa
from alembic import op

revision = "v0010"
down_revision = "v0009"


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "plans",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("bundle_sha256", sa.Text(), nullable=False),
        sa.Column("envelope", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE", name=op.f("fk_plans_job_id")),
        sa.ForeignKeyConstraint(
            ["organization", "bundle_sha256"],
            ["bundles.organization", "bundles.sha256"],
            ondelete="CASCADE",
            name=op.f("fk_plans_organization_bundle_sha256"),
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_plans")),
    )
    op.create_index(op.f("ix_plans_organization_bundle_sha256"), "plans", ["organization", "bundle_sha256"])


def downgrade() -> None:
    """Remove it."""
    op.drop_table("plans")
