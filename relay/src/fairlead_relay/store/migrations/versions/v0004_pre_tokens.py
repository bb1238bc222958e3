"""
Tokens have a name, and may be for one application.

Revision: v0004_pre_tokens. Adds only; a token of before has no name and is for its whole organization. An older relay
takes a token for one application for one of the whole organization: do not make any until all relays are new.
"""

import sqlalchemy as sa
from alembic import op

revision = "v0004"
down_revision = "v0003"


def upgrade() -> None:
    """Add the columns, and the index of an organization's tokens."""
    op.add_column("api_tokens", sa.Column("name", sa.Text(), nullable=False, server_default=sa.text("''")))
    op.add_column("api_tokens", sa.Column("application", sa.Text(), nullable=True))
    op.create_index(op.f("ix_api_tokens_organization_id"), "api_tokens", ["organization", "id"])


def downgrade() -> None:
    """Remove what was added; tokens for one application go, since they would be for all."""
    op.execute("DELETE FROM api_tokens WHERE application IS NOT NULL")
    op.drop_index(op.f("ix_api_tokens_organization_id"), "api_tokens")
    op.drop_column("api_tokens", "application")
    op.drop_column("api_tokens", "name")
