"""
Verification of offered jobs by the agent's own rules: signatures, validity, identity, binding, replay.

All that is needed to say no happens before anything is read from the cluster on the job's behalf, and long before
anything is written. Every refusal has a code of its own and one sentence for the person who must act.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fairlead_agent.errors import OfferRefused
from fairlead_agent.policy import Policy
from fairlead_agent.ports import EnvironmentKey, ReplayMark
from fairlead_shared.envelope import Envelope, verify
from fairlead_shared.errors import EnvelopeInvalid, ErrorCode, SignatureInsufficient, StatementInvalid
from fairlead_shared.identity import AgentIdentity
from fairlead_shared.jobs import JobKind
from fairlead_shared.statement import EMPTY_BUNDLE, PAYLOAD_TYPE, DeploymentStatement, Strategy

MAX_SKEW_SECONDS = 300
"""How far the clocks of signer and agent may differ: the customary five minutes of Kerberos and others."""
_KINDS: Mapping[Strategy, JobKind] = {
    Strategy.ALL_AT_ONCE: JobKind.DEPLOY,
    Strategy.DESTROY: JobKind.DESTROY,
    Strategy.DESTROY_WITHOUT_HOOKS: JobKind.DESTROY,
    Strategy.PLAN: JobKind.PLAN,
}
"""The one kind of job that each strategy is signed for."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A statement that passed, and whose signatures it carries."""

    statement: DeploymentStatement
    signers: tuple[str, ...]


def verify_statement(
    envelope: Envelope | None, policy: Policy, identity: AgentIdentity, relay_key: Ed25519PublicKey | None
) -> Verified:
    """
    Check all that does not depend on time: signatures, whom it is for, and the binding of each namespace.

    Args:
        envelope: From the relay.
        policy: The operator's rules in force.
        identity: Whom this agent's certificate names.
        relay_key: The relay's signing key as pinned at enrolment.
    Raises: OfferRefused: a rule says no; permanent.
    """
    if envelope is None:
        raise OfferRefused(ErrorCode.SIGNATURE, "the job has no signed statement")
    unverified = read_statement(envelope)
    # A lie about the type to get a lower threshold is caught by the binding, which names the type too.
    threshold = policy.threshold(unverified.environment_type)
    if threshold is None:
        kind = unverified.environment_type
        raise OfferRefused(ErrorCode.SIGNATURE, f"the agent's policy has no threshold for environment type {kind}")
    try:
        payload, signers = verify(envelope, PAYLOAD_TYPE, policy.keys(threshold, relay_key), threshold.count)
    except (SignatureInsufficient, EnvelopeInvalid) as error:
        raise OfferRefused(ErrorCode.SIGNATURE, str(error)) from None
    statement = DeploymentStatement.from_bytes(payload)
    _check_addressee(statement, identity)
    _check_binding(statement, policy)
    return Verified(statement, signers)


def read_statement(envelope: Envelope) -> DeploymentStatement:
    """
    Return what an envelope states, whoever signed it.

    Raises: OfferRefused: it is no statement; permanent.
    """
    try:
        return DeploymentStatement.from_bytes(envelope.payload_bytes())
    except (StatementInvalid, EnvelopeInvalid) as error:
        raise OfferRefused(ErrorCode.SIGNATURE, str(error)) from None


def check_kind(kind: str, statement: DeploymentStatement) -> None:
    """
    Check that a job is of the kind that its statement was signed for.

    Nobody destroys by what was signed to deploy, or does anything by what was signed to plan.

    Raises: OfferRefused: it is not; permanent.
    """
    if kind != _KINDS[statement.strategy]:
        raise OfferRefused(
            ErrorCode.STATEMENT_MISMATCH,
            f"the job is of kind {kind}, and its statement is signed for strategy {statement.strategy}",
        )
    if statement.destroys and statement.bundle_sha256 != EMPTY_BUNDLE.sha256:
        raise OfferRefused(
            ErrorCode.STATEMENT_MISMATCH, "the statement is signed to destroy, and names a bundle that is not empty"
        )


def check_validity(statement: DeploymentStatement, now: float) -> None:
    """
    Check that a statement may be carried out now, give or take the allowed skew.

    Raises: OfferRefused: too early or too late; permanent.
    """
    if now < statement.not_before - MAX_SKEW_SECONDS:
        ahead = statement.not_before - now
        raise OfferRefused(
            ErrorCode.STATEMENT_EXPIRED,
            f"the statement is valid from {_time(statement.not_before)}, {ahead:.0f} s after this agent's clock "
            f"({_time(now)}); more than {MAX_SKEW_SECONDS} s: is a clock wrong?",
        )
    if now >= statement.expires + MAX_SKEW_SECONDS:
        raise OfferRefused(
            ErrorCode.STATEMENT_EXPIRED,
            f"the statement expired at {_time(statement.expires)}, {now - statement.expires:.0f} s before this agent's "
            f"clock ({_time(now)}); deploy again, or set the clock right",
        )


def check_replay(statement: DeploymentStatement, marks: Sequence[ReplayMark], attempt: int) -> None:
    """
    Check that a statement was not carried out before, and is not older than what was begun since.

    A deployment that failed may be tried again by a later attempt, until another one was begun.

    Args:
        statement: Verified.
        marks: What its environment remembers, in the order in which they were begun.
        attempt: The offer's.
    Raises: OfferRefused: a replay; permanent.
    """
    own = next((mark for mark in marks if mark.deployment_id == statement.deployment_id), None)
    if own is not None and own.finished:
        raise OfferRefused(
            ErrorCode.REPLAY,
            f"deployment {statement.deployment_id} was carried out before; deploy again under a new id",
        )
    if own is not None and attempt <= own.ended_attempt:
        raise OfferRefused(
            ErrorCode.REPLAY,
            f"attempt {attempt} of deployment {statement.deployment_id} has ended before; retry it, or deploy again",
        )
    if own is not None and own is not marks[-1]:
        raise OfferRefused(
            ErrorCode.REPLAY,
            f"deployment {marks[-1].deployment_id} was begun after {statement.deployment_id}; to return to an older "
            "state, roll back",
        )
    newest = max((mark.not_before for mark in marks), default=0)
    if own is None and statement.not_before < newest:
        raise OfferRefused(
            ErrorCode.REPLAY,
            f"the statement is from {_time(statement.not_before)}, older than the deployment of {_time(newest)} that "
            "was carried out since; to return to an older state, roll back",
        )


def check_readable(environment: tuple[str, str, str] | None, policy: Policy, identity: AgentIdentity) -> EnvironmentKey:
    """
    Check that the relay may see the health of an environment.

    Raises: OfferRefused: another organization's, or one that no namespace is bound to; permanent.
    """
    if environment is None or environment[0] != identity.organization or not policy.knows(environment):
        named = "/".join(environment or ("(none)",))
        raise OfferRefused(ErrorCode.NOT_BOUND, f"the agent's policy binds no namespace to environment {named}")
    return EnvironmentKey(*environment)


def _check_addressee(statement: DeploymentStatement, identity: AgentIdentity) -> None:
    meant = f"{statement.organization}/{statement.cluster}"
    mine = f"{identity.organization}/{identity.cluster}"
    if meant != mine:
        raise OfferRefused(ErrorCode.STATEMENT_MISMATCH, f"the statement is for cluster {meant}, this is {mine}")


def _check_binding(statement: DeploymentStatement, policy: Policy) -> None:
    environment = (statement.organization, statement.application, statement.environment)
    kind = statement.environment_type
    refused = [name for name in statement.namespaces if not policy.binds(name, environment, kind)]
    if refused:
        raise OfferRefused(
            ErrorCode.NOT_BOUND,
            f"the agent's policy does not bind namespace {', '.join(refused[:5])} to environment "
            f"{'/'.join(environment)} of type {kind}; the cluster operator must add it to the agent's bindings",
        )


def _time(epoch_seconds: float) -> str:
    return datetime.fromtimestamp(epoch_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
