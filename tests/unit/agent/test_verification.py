"""Verification: each rule that can say no, at its limits."""

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fairlead_agent.errors import OfferRefused
from fairlead_agent.policy import Policy
from fairlead_agent.ports import EnvironmentKey, ReplayMark
from fairlead_agent.verification import (
    MAX_SKEW_SECONDS,
    check_kind,
    check_readable,
    check_replay,
    check_validity,
    verify_statement,
)
from fairlead_shared.envelope import Envelope, sign
from fairlead_shared.errors import ErrorCode
from fairlead_shared.identity import AgentIdentity, AgentName, ClusterName, OrganizationName
from fairlead_shared.jobs import JobKind
from fairlead_shared.statement import EMPTY_BUNDLE, PAYLOAD_TYPE, DeploymentStatement, Strategy

NOW = 1_800_000_000
RELAY = Ed25519PrivateKey.generate()
CI = Ed25519PrivateKey.generate()
AGENT = AgentIdentity(OrganizationName("acme"), ClusterName("blue"), AgentName("default"))
POLICY = Policy.model_validate(
    {
        "bindings": [
            {
                "namespace": "shop",
                "environments": [
                    {"organization": "acme", "application": "shop", "environment": "*", "type": "staging"},
                    {"organization": "acme", "application": "shop", "environment": "live", "type": "production"},
                ],
            }
        ],
        "signers": {"ci": base64.b64encode(CI.public_key().public_bytes_raw()).decode()},
        "thresholds": {"default": {"signers": ["relay"]}, "production": {"signers": ["relay", "ci"], "count": 2}},
    }
)


def statement(**changes: Any) -> DeploymentStatement:  # noqa: ANN401  (fields of a model)
    """Make a statement that passes, but for the changes."""
    fields: dict[str, Any] = {
        "deployment_id": "d000000000000000",
        "organization": "acme",
        "application": "shop",
        "environment": "staging",
        "environment_type": "staging",
        "cluster": "blue",
        "namespaces": ("shop",),
        "bundle_sha256": "0" * 64,
        "previous_bundle_sha256": None,
        "strategy": Strategy.ALL_AT_ONCE,
        "not_before": NOW,
        "expires": NOW + 60,
        "rollback": False,
    }
    return DeploymentStatement(**{**fields, **changes})


def signed(of: DeploymentStatement, *keys: Ed25519PrivateKey) -> Envelope:
    """Sign a statement, by default with the relay's key."""
    return sign(PAYLOAD_TYPE, of.to_bytes(), *(keys or (RELAY,)))


def refusal(envelope: Envelope | None) -> OfferRefused:
    """Return why an envelope is refused."""
    with pytest.raises(OfferRefused) as caught:
        verify_statement(envelope, POLICY, AGENT, RELAY.public_key())
    assert not caught.value.temporary
    return caught.value


def test_good_statement_passes_with_its_signers() -> None:
    """The statement comes back with the names of those who signed."""
    verified = verify_statement(signed(statement()), POLICY, AGENT, RELAY.public_key())
    assert verified.statement == statement()
    assert verified.signers == ("relay",)
    live = statement(environment="live", environment_type="production")
    assert verify_statement(signed(live, RELAY, CI), POLICY, AGENT, RELAY.public_key()).signers == ("ci", "relay")


@pytest.mark.parametrize(
    ("envelope", "code"),
    [
        (None, ErrorCode.SIGNATURE),
        (signed(statement(), CI), ErrorCode.SIGNATURE),
        (sign(PAYLOAD_TYPE, statement().to_bytes()), ErrorCode.SIGNATURE),
        (sign("text/plain", statement().to_bytes(), RELAY), ErrorCode.SIGNATURE),
        (sign(PAYLOAD_TYPE, b"{}", RELAY), ErrorCode.SIGNATURE),
        (sign(PAYLOAD_TYPE, statement().to_bytes() + b" ", RELAY), ErrorCode.SIGNATURE),
        (signed(statement(environment="live", environment_type="production")), ErrorCode.SIGNATURE),
        (signed(statement(cluster="green")), ErrorCode.STATEMENT_MISMATCH),
        (signed(statement(organization="other")), ErrorCode.STATEMENT_MISMATCH),
        (signed(statement(namespaces=("bank", "shop"))), ErrorCode.NOT_BOUND),
        (signed(statement(application="bank")), ErrorCode.NOT_BOUND),
        # A lie about the type that would need only the relay's signature.
        (signed(statement(environment="live", environment_type="development")), ErrorCode.NOT_BOUND),
    ],
)
def test_each_rule_refuses_with_its_code(envelope: Envelope | None, code: ErrorCode) -> None:
    """No signature, a stranger's, too few, another addressee, an unbound namespace."""
    assert refusal(envelope).code is code


def test_changed_payload_is_refused() -> None:
    """A signature belongs to its bytes."""
    good = signed(statement())
    other = base64.b64encode(statement(bundle_sha256="1" * 64).to_bytes()).decode()
    assert refusal(good.model_copy(update={"payload": other})).code is ErrorCode.SIGNATURE


def test_untrusted_relay_cannot_deploy() -> None:
    """With `trustRelay: false` the relay's signature counts for nothing."""
    content = POLICY.model_dump(by_alias=True) | {
        "trustRelay": False,
        "thresholds": {"default": {"signers": ["ci"]}},
    }
    strict = Policy.model_validate(content)
    with pytest.raises(OfferRefused):
        verify_statement(signed(statement()), strict, AGENT, RELAY.public_key())
    assert verify_statement(signed(statement(), CI), strict, AGENT, RELAY.public_key()).signers == ("ci",)


def test_type_without_threshold_is_refused() -> None:
    """No threshold means nobody can sign, not that nobody has to."""
    strict = Policy.model_validate({"thresholds": {"production": {"signers": ["relay"]}}})
    with pytest.raises(OfferRefused, match="no threshold"):
        verify_statement(signed(statement()), strict, AGENT, RELAY.public_key())


@pytest.mark.parametrize(
    ("now", "valid"),
    [
        (NOW - MAX_SKEW_SECONDS, True),
        (NOW - MAX_SKEW_SECONDS - 1, False),
        (NOW + 60 + MAX_SKEW_SECONDS - 1, True),
        (NOW + 60 + MAX_SKEW_SECONDS, False),
    ],
)
def test_five_minutes_of_skew_are_tolerated(now: float, *, valid: bool) -> None:
    """Validity is checked give or take five minutes, and a refusal names both clocks."""
    if valid:
        check_validity(statement(), now)
        return
    with pytest.raises(OfferRefused, match="clock") as caught:
        check_validity(statement(), now)
    assert caught.value.code is ErrorCode.STATEMENT_EXPIRED


def test_a_job_is_of_the_kind_that_was_signed() -> None:
    """A relay that was taken over turns no deployment into a destruction, and no plan into either."""
    destroys = statement(strategy=Strategy.DESTROY, bundle_sha256=EMPTY_BUNDLE.sha256)
    check_kind(JobKind.DEPLOY, statement())
    check_kind(JobKind.DESTROY, destroys)
    check_kind(JobKind.DESTROY, destroys.model_copy(update={"strategy": Strategy.DESTROY_WITHOUT_HOOKS}))
    plans = statement(strategy=Strategy.PLAN)
    check_kind(JobKind.PLAN, plans)
    for kind, wrong in (
        (JobKind.DESTROY, statement()),
        (JobKind.DEPLOY, destroys),
        (JobKind.DEPLOY, plans),
        (JobKind.DESTROY, plans),
        (JobKind.PLAN, statement()),
        (JobKind.PLAN, destroys),
        (JobKind.DESTROY, statement(strategy=Strategy.DESTROY)),
        (JobKind.DESTROY, statement(strategy=Strategy.DESTROY_WITHOUT_HOOKS)),
    ):
        with pytest.raises(OfferRefused) as caught:
            check_kind(kind, wrong)
        assert caught.value.code is ErrorCode.STATEMENT_MISMATCH


def test_replays_are_refused_and_resumptions_are_not() -> None:
    """Carried out is final; begun or failed may go on until another is begun; older than the newest is refused."""
    own = statement().deployment_id
    check_replay(statement(), (), 1)
    check_replay(statement(), (ReplayMark(own, finished=False, not_before=NOW),), 1)
    check_replay(statement(), (ReplayMark("other", finished=True, not_before=NOW),), 1)
    check_replay(statement(), (ReplayMark(own, finished=False, not_before=NOW, ended_attempt=1),), 2)
    for marks in (
        (ReplayMark(own, finished=True, not_before=NOW),),
        (ReplayMark(own, finished=False, not_before=NOW, ended_attempt=2),),
        (ReplayMark(own, finished=False, not_before=NOW), ReplayMark("other", finished=True, not_before=NOW)),
        (ReplayMark("other", finished=True, not_before=NOW + 1),),
        (ReplayMark("other", finished=False, not_before=NOW + 1),),
    ):
        with pytest.raises(OfferRefused) as caught:
            check_replay(statement(), marks, 2)
        assert caught.value.code is ErrorCode.REPLAY


def test_health_is_shown_of_bound_environments_only() -> None:
    """The relay sees nothing of environments, or organizations, that no namespace is bound to."""
    assert check_readable(("acme", "shop", "x"), POLICY, AGENT) == EnvironmentKey("acme", "shop", "x")
    for environment in (None, ("acme", "bank", "x"), ("other", "shop", "x")):
        with pytest.raises(OfferRefused) as caught:
            check_readable(environment, POLICY, AGENT)
        assert caught.value.code is ErrorCode.NOT_BOUND
