"""
Deployment statements: fixed when a deployment is created, and signed with the relay's own key.

Agents whose operator trusts the relay's key accept that signature; for others it is one of several, or worth nothing.
Jobs and retries refer to the envelope made here and never make another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fairlead_shared.envelope import Envelope, sign
from fairlead_shared.statement import PAYLOAD_TYPE, Consent, DeploymentStatement, Strategy


@dataclass(frozen=True, slots=True)
class Target:
    """The environment that a deployment changes."""

    organization: str
    application: str
    environment: str
    environment_type: str
    cluster: str


@dataclass(frozen=True, slots=True)
class Change:
    """What a deployment does to it."""

    bundle_sha256: str
    """What it shall run."""
    previous_bundle_sha256: str | None
    """What it runs; None for the first deployment."""
    rollback: bool = False
    """A deliberate return to an older bundle."""
    strategy: Strategy = Strategy.ALL_AT_ONCE
    consents: frozenset[Consent] = frozenset()


def make_statement(
    deployment_id: str,
    target: Target,
    change: Change,
    namespaces: Sequence[str],
    *,
    now: float,
    expires: float,
) -> DeploymentStatement:
    """
    Fix what a deployment does.

    Args:
        deployment_id: Made by the client.
        target: The environment.
        change: What it does to it.
        namespaces: Every namespace that the bundle names, sorted.
        now: Seconds since the epoch.
        expires: Seconds since the epoch; an agent starts nothing after it.

    Raises: pydantic.ValidationError: more namespaces than a statement holds.

    """
    return DeploymentStatement(
        deployment_id=deployment_id,
        organization=target.organization,
        application=target.application,
        environment=target.environment,
        environment_type=target.environment_type,
        cluster=target.cluster,
        namespaces=tuple(namespaces),
        bundle_sha256=change.bundle_sha256,
        previous_bundle_sha256=change.previous_bundle_sha256,
        strategy=change.strategy,
        not_before=math.floor(now),
        expires=math.ceil(expires),
        rollback=change.rollback,
        consents=tuple(sorted(change.consents)),
    )


def sign_statement(statement: DeploymentStatement, signer: Ed25519PrivateKey) -> Envelope:
    """Return the statement's bytes with the relay's signature."""
    return sign(PAYLOAD_TYPE, statement.to_bytes(), signer)
