"""
The audit log: one chain of records for each organization.

Revision: v0008_pre_audit. Adds a table that the relay before it does not know.
"""

import sqlalchemy as sa
from alembic import op

revision = "v0008"
down_revision = "v0007"


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "audit_records",
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor_kind", sa.Text(), nullable=False),
        sa.Column("actor_id", sa.Text(), nullable=False),
        sa.Column("actor_name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("verb", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("after", sa.Text(), nullable=True),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.CheckConstraint("actor_kind IN ('agent', 'command', 'token')", name=op.f("ck_audit_records_actor_kind")),
        sa.CheckConstraint("outcome IN ('denied', 'failed', 'succeeded')", name=op.f("ck_audit_records_outcome")),
        sa.ForeignKeyConstraint(["organization"], ["organizations.name"], name=op.f("fk_audit_records_organization")),
        sa.PrimaryKeyConstraint("organization", "number", name=op.f("pk_audit_records")),
    )


def downgrade() -> None:
    """Remove it."""
    op.drop_table("audit_records")
