"""
The tables of the relay's store, with their invariants as constraints and partial unique indexes.

Why here: the migrations are compared with this metadata on both databases. No statements live here; they are beside
their table in the sibling modules. Conventions:

- Names are keys. Organizations, clusters, applications and environments are named in certificates and signed
  statements, so their names never change and need no second identity.
- Times are seconds since the epoch, UTC, in double precision: exact to the microsecond, and what the wire carries.
- JSON is text: the relay hands most of it on without looking inside.
- Every row that is followed by position (`sequence`, `position`) is numbered by the database, in the order of commits:
  the store has one writer at a time, see store/writer.py.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

from fairlead_shared.jobs import FINAL_STATES, HELD_STATES, JobState

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_Number = BigInteger().with_variant(Integer(), "sqlite")
"""SQLite numbers rows by itself only in a column of exactly the type INTEGER."""


def _one_of(column: str, values: frozenset[JobState] | tuple[str, ...]) -> str:
    names = ", ".join(f"'{value}'" for value in sorted(values))
    return f"{column} IN ({names})"


meta = Table(
    "meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

relays = Table(
    "relays",
    metadata,
    Column("id", Text, primary_key=True),
    Column("beat", BigInteger, nullable=False),
)

organizations = Table(
    "organizations",
    metadata,
    Column("name", Text, primary_key=True),
    Column("created_at", Double, nullable=False),
)

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("organization", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("secret_sha256", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("last_used_at", Double),
    Column("name", Text, nullable=False, server_default=text("''")),
    Column("application", Text),
    ForeignKeyConstraint(["organization"], ["organizations.name"]),
    CheckConstraint(_one_of("role", ("admin", "deployer", "viewer")), name="role"),
)
Index(None, api_tokens.c.organization, api_tokens.c.id)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("token_id", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request_sha256", Text, nullable=False),
    Column("answer", LargeBinary),
    Column("expires_at", Double, nullable=False),
)
Index(None, idempotency_keys.c.expires_at)

audit_records = Table(
    "audit_records",
    metadata,
    Column("organization", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("actor_kind", Text, nullable=False),
    Column("actor_id", Text, nullable=False),
    Column("actor_name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("verb", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("before", Text),
    Column("after", Text),
    Column("digest", Text, nullable=False),
    ForeignKeyConstraint(["organization"], ["organizations.name"]),
    CheckConstraint(_one_of("outcome", ("succeeded", "failed", "denied")), name="outcome"),
    CheckConstraint(_one_of("actor_kind", ("token", "agent", "command")), name="actor_kind"),
)

clusters = Table(
    "clusters",
    metadata,
    Column("organization", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("created_at", Double, nullable=False),
    Column("require_approval", Boolean, nullable=False, server_default=false()),
    Column("disabled_at", Double),
    ForeignKeyConstraint(["organization"], ["organizations.name"]),
)

agents = Table(
    "agents",
    metadata,
    Column("organization", Text, primary_key=True),
    Column("cluster", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("enrolled_at", Double, nullable=False),
    Column("version", Text, nullable=False),
    Column("kubernetes_version", Text, nullable=False),
    Column("replica", Text, nullable=False),
    Column("sealing_key", Text, nullable=False),
    Column("certificate_serial", Text, nullable=False),
    Column("certificate_expires_at", Double, nullable=False),
    Column("certificate_issuer", Text),
    Column("enrolled_key_sha256", Text),
    Column("enrolled_from", Double, nullable=False, server_default=text("0")),
    Column("presented_from", Double, nullable=False, server_default=text("0")),
    Column("issued_from", Double, nullable=False, server_default=text("0")),
    Column("revoked_at", Double),
    Column("session_id", Text),
    Column("relay_id", Text),
    Column("connected_at", Double),
    Column("last_seen_at", Double),
    ForeignKeyConstraint(["organization", "cluster"], ["clusters.organization", "clusters.name"]),
    UniqueConstraint("session_id"),
    CheckConstraint("(session_id IS NULL) = (relay_id IS NULL)", name="session_has_relay"),
)

enrolment_tokens = Table(
    "enrolment_tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("organization", Text, nullable=False),
    Column("cluster", Text, nullable=False),
    Column("secret_sha256", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("used_at", Double),
    Column("used_key_sha256", Text),
    ForeignKeyConstraint(["organization", "cluster"], ["clusters.organization", "clusters.name"]),
    CheckConstraint("(used_at IS NULL) = (used_key_sha256 IS NULL)", name="used_by_a_key"),
)

approvals = Table(
    "approvals",
    metadata,
    Column("organization", Text, primary_key=True),
    Column("cluster", Text, primary_key=True),
    Column("key_sha256", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("requested_at", Double, nullable=False),
    Column("approved_at", Double),
    ForeignKeyConstraint(["organization", "cluster"], ["clusters.organization", "clusters.name"]),
    CheckConstraint(_one_of("kind", ("enrol", "rejoin")), name="kind"),
)

applications = Table(
    "applications",
    metadata,
    Column("organization", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("created_at", Double, nullable=False),
    ForeignKeyConstraint(["organization"], ["organizations.name"]),
)

environments = Table(
    "environments",
    metadata,
    Column("organization", Text, primary_key=True),
    Column("application", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("type", Text, nullable=False),
    Column("cluster", Text, nullable=False),
    Column("namespace", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("deleted_at", Double),
    ForeignKeyConstraint(["organization", "application"], ["applications.organization", "applications.name"]),
    ForeignKeyConstraint(["organization", "cluster"], ["clusters.organization", "clusters.name"]),
)

drifts = Table(
    "drifts",
    metadata,
    Column("organization", Text, primary_key=True),
    Column("application", Text, primary_key=True),
    Column("environment", Text, primary_key=True),
    Column("session_id", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("bundle_sha256", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("objects", Integer, nullable=False),
    Column("since", Double),
    Column("report", Text, nullable=False),
    Column("received_at", Double, nullable=False),
    ForeignKeyConstraint(
        ["organization", "application", "environment"],
        ["environments.organization", "environments.application", "environments.name"],
    ),
)

labels = Table(
    "labels",
    metadata,
    Column("organization", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("application", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("labels", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    ForeignKeyConstraint(["organization"], ["organizations.name"]),
    CheckConstraint(_one_of("kind", ("cluster", "application", "environment")), name="kind"),
)

bundles = Table(
    "bundles",
    metadata,
    Column("organization", Text, primary_key=True),
    Column("sha256", Text, primary_key=True),
    Column("size_bytes", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    ForeignKeyConstraint(["organization"], ["organizations.name"]),
)

deployments = Table(
    "deployments",
    metadata,
    Column("sequence", _Number, primary_key=True),
    Column("id", Text, nullable=False),
    Column("organization", Text, nullable=False),
    Column("application", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Column("environment_type", Text, nullable=False),
    Column("cluster", Text, nullable=False),
    Column("bundle_sha256", Text, nullable=False),
    Column("previous_bundle_sha256", Text),
    Column("rollback", Boolean, nullable=False),
    Column("statement", LargeBinary, nullable=False),
    Column("envelope", Text, nullable=False),
    Column("origins", Text, nullable=False),
    Column("request_sha256", Text, nullable=False),
    Column("job_id", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("rollback_on_failure", Boolean, nullable=False, server_default=false()),
    Column("rollback_of", Text),
    Column("rollback_skipped", Text, nullable=False, server_default=text("''")),
    UniqueConstraint("id"),
    ForeignKeyConstraint(
        ["organization", "application", "environment"],
        ["environments.organization", "environments.application", "environments.name"],
    ),
    ForeignKeyConstraint(["organization", "bundle_sha256"], ["bundles.organization", "bundles.sha256"]),
)
Index(None, deployments.c.organization, deployments.c.application, deployments.c.environment, deployments.c.sequence)
Index(
    "ix_deployments_rollback_of",
    deployments.c.rollback_of,
    sqlite_where=text("rollback_of IS NOT NULL"),
    postgresql_where=text("rollback_of IS NOT NULL"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("sequence", _Number, primary_key=True),
    Column("id", Text, nullable=False),
    Column("organization", Text, nullable=False),
    Column("cluster", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("application", Text),
    Column("environment", Text),
    Column("deployment_id", Text),
    Column("exclusive", Boolean, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("acknowledged_seq", BigInteger, nullable=False),
    Column("stop", Text),
    Column("holder", Text),
    Column("leased_at", Double),
    Column("lease_expires_at", Double),
    Column("runnable_at", Double),
    Column("wait_seconds", Double, nullable=False),
    Column("deadline", Double, nullable=False),
    Column("reason", Text, nullable=False),
    Column("outcome", Text),
    Column("code", Text),
    Column("cause", Text, nullable=False),
    Column("counts", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    UniqueConstraint("id"),
    ForeignKeyConstraint(["organization", "cluster"], ["clusters.organization", "clusters.name"]),
    ForeignKeyConstraint(
        ["organization", "application", "environment"],
        ["environments.organization", "environments.application", "environments.name"],
    ),
    ForeignKeyConstraint(["deployment_id"], ["deployments.id"]),
    CheckConstraint(_one_of("state", frozenset(JobState)), name="state"),
    CheckConstraint(f"(finished_at IS NOT NULL) = ({_one_of('state', FINAL_STATES)})", name="final_is_finished"),
    CheckConstraint(f"(holder IS NOT NULL) = ({_one_of('state', HELD_STATES)})", name="held_has_holder"),
    CheckConstraint("(holder IS NULL) = (lease_expires_at IS NULL)", name="holder_has_lease"),
    CheckConstraint("environment IS NOT NULL OR NOT exclusive", name="exclusive_names_environment"),
    CheckConstraint(_one_of("stop", ("cancel", "supersede")), name="stop"),
    CheckConstraint("attempt >= 1 AND token >= 0 AND acknowledged_seq >= 0", name="numbers"),
)

# One job at a time changes an environment, and an unreachable one may still be doing so.
Index(
    "uq_jobs_environment_held",
    jobs.c.organization,
    jobs.c.application,
    jobs.c.environment,
    unique=True,
    sqlite_where=text(f"exclusive AND {_one_of('state', HELD_STATES | {JobState.UNREACHABLE})}"),
    postgresql_where=text(f"exclusive AND {_one_of('state', HELD_STATES | {JobState.UNREACHABLE})}"),
)
# The queue itself: only jobs that are not final are ever looked for by cluster or by environment.
Index(
    "ix_jobs_unfinished_cluster",
    jobs.c.organization,
    jobs.c.cluster,
    jobs.c.state,
    jobs.c.priority.desc(),
    jobs.c.sequence,
    sqlite_where=text("finished_at IS NULL"),
    postgresql_where=text("finished_at IS NULL"),
)
Index(
    "ix_jobs_unfinished_environment",
    jobs.c.organization,
    jobs.c.application,
    jobs.c.environment,
    jobs.c.sequence,
    sqlite_where=text("finished_at IS NULL"),
    postgresql_where=text("finished_at IS NULL"),
)
Index(
    "ix_jobs_holder",
    jobs.c.holder,
    sqlite_where=text("holder IS NOT NULL"),
    postgresql_where=text("holder IS NOT NULL"),
)
Index(
    "ix_jobs_unfinished_deadline",
    jobs.c.deadline,
    sqlite_where=text("finished_at IS NULL"),
    postgresql_where=text("finished_at IS NULL"),
)
Index(None, jobs.c.deployment_id)
# What an environment runs: asked for by every deployment, and otherwise behind all that wait or failed since.
Index(
    "ix_jobs_succeeded_environment",
    jobs.c.organization,
    jobs.c.application,
    jobs.c.environment,
    jobs.c.sequence,
    sqlite_where=text("state = 'succeeded' AND deployment_id IS NOT NULL"),
    postgresql_where=text("state = 'succeeded' AND deployment_id IS NOT NULL"),
)
Index(None, jobs.c.organization, jobs.c.sequence)

plans = Table(
    "plans",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("organization", Text, nullable=False),
    Column("bundle_sha256", Text, nullable=False),
    Column("envelope", Text, nullable=False),
    # A relay that does not know this table forgets jobs and bundles all the same.
    ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
    ForeignKeyConstraint(
        ["organization", "bundle_sha256"], ["bundles.organization", "bundles.sha256"], ondelete="CASCADE"
    ),
)
# Whether a bundle may be forgotten is asked for each.
Index(None, plans.c.organization, plans.c.bundle_sha256)

job_events = Table(
    "job_events",
    metadata,
    Column("position", _Number, primary_key=True),
    Column("organization", Text, nullable=False),
    Column("deployment_id", Text),
    Column("job_id", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("seq", BigInteger),
    Column("key", Text),
    Column("recorded_at", Double, nullable=False),
    Column("event", Text, nullable=False),
    ForeignKeyConstraint(["job_id"], ["jobs.id"]),
    UniqueConstraint("job_id", "seq"),
    UniqueConstraint("job_id", "key"),
    sqlite_autoincrement=True,
)
# Every reader names its organization: with the organization first, the narrowest index is also the one that is chosen.
Index(None, job_events.c.organization, job_events.c.job_id, job_events.c.position)
Index(None, job_events.c.organization, job_events.c.deployment_id, job_events.c.position)
Index(None, job_events.c.organization, job_events.c.position)
