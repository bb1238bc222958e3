"""
The first schema.

Revision: v0001_pre_first. Adds only, so it may run before the code that needs it.
"""

import sqlalchemy as sa
from alembic import op

revision = "v0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "meta",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_meta")),
    )
    op.create_table(
        "organizations",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_organizations")),
    )
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("secret_sha256", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("last_used_at", sa.Double(), nullable=True),
        sa.CheckConstraint("role IN ('admin', 'deployer', 'viewer')", name=op.f("ck_api_tokens_role")),
        sa.ForeignKeyConstraint(["organization"], ["organizations.name"], name=op.f("fk_api_tokens_organization")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_tokens")),
    )
    op.create_table(
        "applications",
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["organization"], ["organizations.name"], name=op.f("fk_applications_organization")),
        sa.PrimaryKeyConstraint("organization", "name", name=op.f("pk_applications")),
    )
    op.create_table(
        "bundles",
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["organization"], ["organizations.name"], name=op.f("fk_bundles_organization")),
        sa.PrimaryKeyConstraint("organization", "sha256", name=op.f("pk_bundles")),
    )
    op.create_table(
        "clusters",
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["organization"], ["organizations.name"], name=op.f("fk_clusters_organization")),
        sa.PrimaryKeyConstraint("organization", "name", name=op.f("pk_clusters")),
    )
    op.create_table(
        "agents",
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("cluster", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("enrolled_at", sa.Double(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("kubernetes_version", sa.Text(), nullable=False),
        sa.Column("replica", sa.Text(), nullable=False),
        sa.Column("sealing_key", sa.Text(), nullable=False),
        sa.Column("certificate_serial", sa.Text(), nullable=False),
        sa.Column("certificate_expires_at", sa.Double(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=True),
        sa.Column("relay_id", sa.Text(), nullable=True),
        sa.Column("connected_at", sa.Double(), nullable=True),
        sa.Column("last_seen_at", sa.Double(), nullable=True),
        sa.CheckConstraint("(session_id IS NULL) = (relay_id IS NULL)", name=op.f("ck_agents_session_has_relay")),
        sa.ForeignKeyConstraint(
            ["organization", "cluster"],
            ["clusters.organization", "clusters.name"],
            name=op.f("fk_agents_organization_cluster"),
        ),
        sa.PrimaryKeyConstraint("organization", "cluster", name=op.f("pk_agents")),
        sa.UniqueConstraint("session_id", name=op.f("uq_agents_session_id")),
    )
    op.create_table(
        "enrolment_tokens",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("cluster", sa.Text(), nullable=False),
        sa.Column("secret_sha256", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("used_at", sa.Double(), nullable=True),
        sa.Column("used_key_sha256", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(used_at IS NULL) = (used_key_sha256 IS NULL)", name=op.f("ck_enrolment_tokens_used_by_a_key")
        ),
        sa.ForeignKeyConstraint(
            ["organization", "cluster"],
            ["clusters.organization", "clusters.name"],
            name=op.f("fk_enrolment_tokens_organization_cluster"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_enrolment_tokens")),
    )
    op.create_table(
        "environments",
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("application", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("cluster", sa.Text(), nullable=False),
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization", "application"],
            ["applications.organization", "applications.name"],
            name=op.f("fk_environments_organization_application"),
        ),
        sa.ForeignKeyConstraint(
            ["organization", "cluster"],
            ["clusters.organization", "clusters.name"],
            name=op.f("fk_environments_organization_cluster"),
        ),
        sa.PrimaryKeyConstraint("organization", "application", "name", name=op.f("pk_environments")),
    )
    op.create_table(
        "deployments",
        sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("application", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("environment_type", sa.Text(), nullable=False),
        sa.Column("cluster", sa.Text(), nullable=False),
        sa.Column("bundle_sha256", sa.Text(), nullable=False),
        sa.Column("previous_bundle_sha256", sa.Text(), nullable=True),
        sa.Column("rollback", sa.Boolean(), nullable=False),
        sa.Column("statement", sa.LargeBinary(), nullable=False),
        sa.Column("envelope", sa.Text(), nullable=False),
        sa.Column("origins", sa.Text(), nullable=False),
        sa.Column("request_sha256", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization", "application", "environment"],
            ["environments.organization", "environments.application", "environments.name"],
            name=op.f("fk_deployments_organization_application_environment"),
        ),
        sa.ForeignKeyConstraint(
            ["organization", "bundle_sha256"],
            ["bundles.organization", "bundles.sha256"],
            name=op.f("fk_deployments_organization_bundle_sha256"),
        ),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_deployments")),
        sa.UniqueConstraint("id", name=op.f("uq_deployments_id")),
    )
    op.create_index(
        op.f("ix_deployments_organization_application_environment_sequence"),
        "deployments",
        ["organization", "application", "environment", "sequence"],
        unique=False,
    )
    op.create_table(
        "jobs",
        sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("cluster", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("application", sa.Text(), nullable=True),
        sa.Column("environment", sa.Text(), nullable=True),
        sa.Column("deployment_id", sa.Text(), nullable=True),
        sa.Column("exclusive", sa.Boolean(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("acknowledged_seq", sa.BigInteger(), nullable=False),
        sa.Column("stop", sa.Text(), nullable=True),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("leased_at", sa.Double(), nullable=True),
        sa.Column("lease_expires_at", sa.Double(), nullable=True),
        sa.Column("runnable_at", sa.Double(), nullable=True),
        sa.Column("wait_seconds", sa.Double(), nullable=False),
        sa.Column("deadline", sa.Double(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("counts", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.CheckConstraint(
            "(finished_at IS NOT NULL) = "
            "(state IN ('cancelled', 'expired', 'failed', 'refused', 'succeeded', 'superseded'))",
            name=op.f("ck_jobs_final_is_finished"),
        ),
        sa.CheckConstraint(
            "(holder IS NOT NULL) = (state IN ('cancelling', 'leased', 'running'))",
            name=op.f("ck_jobs_held_has_holder"),
        ),
        sa.CheckConstraint(
            "state IN ('cancelled', 'cancelling', 'expired', 'failed', 'leased', 'queued', 'refused', 'running', "
            "'succeeded', 'superseded', 'unreachable')",
            name=op.f("ck_jobs_state"),
        ),
        sa.CheckConstraint("stop IN ('cancel', 'supersede')", name=op.f("ck_jobs_stop")),
        sa.CheckConstraint("(holder IS NULL) = (lease_expires_at IS NULL)", name=op.f("ck_jobs_holder_has_lease")),
        sa.CheckConstraint("attempt >= 1 AND token >= 0 AND acknowledged_seq >= 0", name=op.f("ck_jobs_numbers")),
        sa.CheckConstraint(
            "environment IS NOT NULL OR NOT exclusive", name=op.f("ck_jobs_exclusive_names_environment")
        ),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployments.id"], name=op.f("fk_jobs_deployment_id")),
        sa.ForeignKeyConstraint(
            ["organization", "application", "environment"],
            ["environments.organization", "environments.application", "environments.name"],
            name=op.f("fk_jobs_organization_application_environment"),
        ),
        sa.ForeignKeyConstraint(
            ["organization", "cluster"],
            ["clusters.organization", "clusters.name"],
            name=op.f("fk_jobs_organization_cluster"),
        ),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_jobs")),
        sa.UniqueConstraint("id", name=op.f("uq_jobs_id")),
    )
    op.create_index(op.f("ix_jobs_deployment_id"), "jobs", ["deployment_id"], unique=False)
    op.create_index(
        "ix_jobs_holder",
        "jobs",
        ["holder"],
        unique=False,
        sqlite_where=sa.text("holder IS NOT NULL"),
        postgresql_where=sa.text("holder IS NOT NULL"),
    )
    op.create_index(
        "ix_jobs_unfinished_cluster",
        "jobs",
        ["organization", "cluster", "state", sa.literal_column("priority DESC"), "sequence"],
        unique=False,
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_index(
        "ix_jobs_unfinished_deadline",
        "jobs",
        ["deadline"],
        unique=False,
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_index(
        "ix_jobs_unfinished_environment",
        "jobs",
        ["organization", "application", "environment", "sequence"],
        unique=False,
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_index(
        "uq_jobs_environment_held",
        "jobs",
        ["organization", "application", "environment"],
        unique=True,
        sqlite_where=sa.text("exclusive AND state IN ('cancelling', 'leased', 'running', 'unreachable')"),
        postgresql_where=sa.text("exclusive AND state IN ('cancelling', 'leased', 'running', 'unreachable')"),
    )
    op.create_table(
        "job_events",
        sa.Column("position", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("deployment_id", sa.Text(), nullable=True),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=True),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("recorded_at", sa.Double(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_events_job_id")),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_job_events")),
        sa.UniqueConstraint("job_id", "key", name=op.f("uq_job_events_job_id_key")),
        sa.UniqueConstraint("job_id", "seq", name=op.f("uq_job_events_job_id_seq")),
        sqlite_autoincrement=True,
    )
    for columns in (
        ["organization", "deployment_id", "position"],
        ["organization", "job_id", "position"],
        ["organization", "position"],
    ):
        op.create_index(op.f(f"ix_job_events_{'_'.join(columns)}"), "job_events", columns, unique=False)


def downgrade() -> None:
    """Drop the tables, and everything in them."""
    for table in (
        "job_events",
        "jobs",
        "deployments",
        "environments",
        "enrolment_tokens",
        "agents",
        "clusters",
        "bundles",
        "applications",
        "api_tokens",
        "organizations",
        "meta",
    ):
        op.drop_table(table)
