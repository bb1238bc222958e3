"""
The life of an agent's identity: disabled clusters, revoked agents, approvals, and which certificates still count.

Revision: v0002_pre_identity. Adds only, with defaults, so the relay before it goes on working.
"""

import sqlalchemy as sa
from alembic import op

revision = "v0002"
down_revision = "v0001"


def upgrade() -> None:
    """Add the columns and the table."""
    op.add_column("clusters", sa.Column("require_approval", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("clusters", sa.Column("disabled_at", sa.Double(), nullable=True))
    op.add_column("agents", sa.Column("certificate_issuer", sa.Text(), nullable=True))
    op.add_column("agents", sa.Column("enrolled_key_sha256", sa.Text(), nullable=True))
    op.add_column("agents", sa.Column("enrolled_from", sa.Double(), nullable=False, server_default=sa.text("0")))
    op.add_column("agents", sa.Column("presented_from", sa.Double(), nullable=False, server_default=sa.text("0")))
    op.add_column("agents", sa.Column("revoked_at", sa.Double(), nullable=True))
    op.create_table(
        "approvals",
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("cluster", sa.Text(), nullable=False),
        sa.Column("key_sha256", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("requested_at", sa.Double(), nullable=False),
        sa.Column("approved_at", sa.Double(), nullable=True),
        sa.CheckConstraint("kind IN ('enrol', 'rejoin')", name=op.f("ck_approvals_kind")),
        sa.ForeignKeyConstraint(
            ["organization", "cluster"],
            ["clusters.organization", "clusters.name"],
            name=op.f("fk_approvals_organization_cluster"),
        ),
        sa.PrimaryKeyConstraint("organization", "cluster", name=op.f("pk_approvals")),
    )


def downgrade() -> None:
    """Remove what was added."""
    op.drop_table("approvals")
    for column in ("revoked_at", "presented_from", "enrolled_from", "enrolled_key_sha256", "certificate_issuer"):
        op.drop_column("agents", column)
    op.drop_column("clusters", "disabled_at")
    op.drop_column("clusters", "require_approval")
