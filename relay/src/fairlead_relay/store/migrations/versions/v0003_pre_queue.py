"""
Indexes by which an environment's current deployment and an organization's newest jobs are found without a scan.

Revision: v0003_pre_queue. Adds only, so the relay before it goes on working.
"""

import sqlalchemy as sa
from alembic import op

revision = "v0003"
down_revision = "v0002"


def upgrade() -> None:
    """Add the indexes."""
    succeeded = sa.text("state = 'succeeded' AND deployment_id IS NOT NULL")
    op.create_index(
        "ix_jobs_succeeded_environment",
        "jobs",
        ["organization", "application", "environment", "sequence"],
        sqlite_where=succeeded,
        postgresql_where=succeeded,
    )
    op.create_index("ix_jobs_organization_sequence", "jobs", ["organization", "sequence"])


def downgrade() -> None:
    """Remove them."""
    op.drop_index("ix_jobs_organization_sequence", "jobs")
    op.drop_index("ix_jobs_succeeded_environment", "jobs")
