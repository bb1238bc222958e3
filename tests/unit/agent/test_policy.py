"""Policy: what bindings, cluster-scoped rules and thresholds allow, and which policies make no sense."""

import base64
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from fairlead_agent.policy import Policy
from fairlead_shared.drift import DriftMode
from fairlead_shared.objects import ObjectRef

STAGING = {"organization": "acme", "application": "shop", "environment": "staging", "type": "staging"}


def policy(**content: Any) -> Policy:  # noqa: ANN401  (YAML)
    """Make a policy from the file's keys."""
    return Policy.model_validate(content)


def raw_key(key: Ed25519PrivateKey) -> str:
    """Return the text form of a public key."""
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def test_binding_names_all_four_parts() -> None:
    """Namespace, organization, application, environment and type must all fit."""
    rules = policy(bindings=[{"namespace": "shop", "environments": [STAGING]}])
    shop = ("acme", "shop", "staging")
    assert rules.binds("shop", shop, "staging")
    assert not rules.binds("bank", shop, "staging")
    assert not rules.binds("shop", shop, "production")
    assert not rules.binds("shop", ("acme", "shop", "other"), "staging")
    assert not rules.binds("shop", ("acme", "bank", "staging"), "staging")
    assert not rules.binds("shop", ("other", "shop", "staging"), "staging")
    assert rules.knows(shop)
    assert not rules.knows(("acme", "shop", "other"))


def test_stars_stand_for_any_but_the_organization() -> None:
    """`*` is allowed for application, environment and type, and nowhere else."""
    any_of_acme = {"organization": "acme", "application": "*", "environment": "*", "type": "*"}
    rules = policy(bindings=[{"namespace": "shop", "environments": [any_of_acme]}])
    assert rules.binds("shop", ("acme", "x", "y"), "z")
    assert not rules.binds("shop", ("other", "x", "y"), "z")
    with pytest.raises(ValidationError):
        policy(bindings=[{"namespace": "*", "environments": [STAGING]}])
    with pytest.raises(ValidationError):
        policy(bindings=[{"namespace": "shop", "environments": [{**STAGING, "organization": "*"}]}])


def test_cluster_scoped_objects_need_a_rule_by_name() -> None:
    """Group, kind and name must fit; a name may end in `*` and not be `*`."""
    rules = policy(clusterScoped=[{"group": "", "kind": "Namespace", "names": ["shop", "pr-*"]}])

    def allowed(kind: str, name: str, version: str = "v1") -> bool:
        return rules.allows_cluster_scoped(ObjectRef(api_version=version, kind=kind, name=name))

    assert allowed("Namespace", "shop")
    assert allowed("Namespace", "pr-12")
    assert not allowed("Namespace", "shop-2")
    assert not allowed("Node", "shop")
    assert not allowed("Namespace", "shop", "example.com/v1")
    for rule in (
        {"group": "*", "kind": "Namespace", "names": ["a"]},
        {"group": "", "kind": "*", "names": ["a"]},
        {"group": "", "kind": "Namespace", "names": ["*"]},
        {"group": "", "kind": "Namespace", "names": ["a*b"]},
        {"group": "", "kind": "Namespace", "names": []},
    ):
        with pytest.raises(ValidationError):
            policy(clusterScoped=[rule])


def test_threshold_is_chosen_by_type() -> None:
    """A type without a threshold of its own has the default one."""
    ci = Ed25519PrivateKey.generate()
    relay = Ed25519PrivateKey.generate().public_key()
    rules = policy(
        signers={"ci": raw_key(ci)},
        thresholds={"default": {"signers": ["relay"]}, "production": {"signers": ["relay", "ci"], "count": 2}},
    )
    default, production = rules.threshold("staging"), rules.threshold("production")
    assert default is not None
    assert production is not None
    assert set(rules.keys(default, relay)) == {"relay"}
    assert set(rules.keys(production, relay)) == {"relay", "ci"}
    assert set(rules.keys(production, None)) == {"ci"}


def test_default_trusts_the_relay() -> None:
    """An empty policy asks for the relay's signature, and binds nothing."""
    rules = policy()
    threshold = rules.threshold("any")
    assert threshold is not None
    assert (threshold.signers, threshold.count) == (("relay",), 1)
    assert not rules.binds("shop", ("acme", "shop", "staging"), "staging")


def test_type_without_any_threshold_has_none() -> None:
    """Without a default, other types cannot be deployed at all."""
    assert policy(thresholds={"staging": {"signers": ["relay"]}}).threshold("production") is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"thresholds": {"default": {"signers": ["ci"]}}}, "no signer 'ci' (known: relay)"),
        ({"trustRelay": False}, "no signer 'relay' (known: none)"),
        ({"thresholds": {"default": {"signers": ["relay"], "count": 2}}}, "2 signatures are asked for and there are 1"),
        ({"thresholds": {"default": {"signers": ["relay"], "count": 0}}}, "greater than or equal to 1"),
        ({"signers": {"ci": "c2hvcnQ="}}, "32-byte Ed25519"),
        ({"signers": {"ci": "no base64"}}, "32-byte Ed25519"),
    ],
)
def test_policy_that_makes_no_sense_is_refused(content: dict[str, Any], expected: str) -> None:
    """A threshold nobody could reach, or a key that is none, is a mistake and not a rule."""
    with pytest.raises(ValidationError) as caught:
        policy(**content)
    assert expected in str(caught.value)


def test_one_key_under_two_names_counts_once() -> None:
    """Two names of one key cannot make up two signatures."""
    key = raw_key(Ed25519PrivateKey.generate())
    with pytest.raises(ValidationError, match="there are 1 keys"):
        policy(signers={"a": key, "b": key}, thresholds={"default": {"signers": ["a", "b"], "count": 2}})
    with pytest.raises(ValidationError, match="the relay's own key"):
        policy(signers={"relay": key})


def test_force_and_recreate_are_rules_by_kind() -> None:
    """Fields are taken over on the named objects of one namespace; what holds data is never made again."""
    rules = policy(
        force=[{"group": "apps", "kind": "Deployment", "namespace": "shop", "names": ["web-*"]}],
        recreate=[{"group": "batch", "kind": "Job"}],
    )
    web = ObjectRef(api_version="apps/v1", kind="Deployment", namespace="shop", name="web-1")
    assert rules.may_force(web)
    assert not rules.may_force(replace(web, namespace="bank"))
    assert not rules.may_force(replace(web, name="db"))
    assert rules.may_recreate(ObjectRef(api_version="batch/v1", kind="Job", namespace="shop", name="any"))
    assert not rules.may_recreate(web)
    for group, kind in (("", "PersistentVolumeClaim"), ("apiextensions.k8s.io", "CustomResourceDefinition")):
        with pytest.raises(ValidationError, match="never recreated"):
            policy(recreate=[{"group": group, "kind": kind}])
    with pytest.raises(ValidationError):
        policy(adopt=["anybody"])


@pytest.mark.parametrize(
    ("pruned", "held", "needs"), [(10, 10, False), (11, 22, False), (11, 21, True), (0, 0, False), (500, 1000, False)]
)
def test_a_large_prune_needs_consent(pruned: int, held: int, *, needs: bool) -> None:
    """More than ten, and more than half of what is held, unless the operator says otherwise."""
    assert policy().prune.needs_consent(pruned, held) is needs


def test_drift_is_reported_unless_a_rule_says_otherwise() -> None:
    """The first rule that names the environment counts; YAML's bare `off` is read as it was meant."""
    assert policy().drift_mode(("acme", "shop", "staging"), "staging") is DriftMode.REPORT
    anywhere = {"organization": "acme", "application": "*", "environment": "*", "type": "*"}
    rules = policy(
        drift={"mode": False, "environments": [{**STAGING, "mode": "correct"}, {**anywhere, "mode": "report"}]}
    )
    assert rules.drift_mode(("acme", "shop", "staging"), "staging") is DriftMode.CORRECT
    assert rules.drift_mode(("acme", "shop", "staging"), "production") is DriftMode.REPORT
    assert rules.drift_mode(("other", "shop", "staging"), "staging") is DriftMode.OFF
    with pytest.raises(ValidationError):
        policy(drift={"mode": True})


def test_ignored_fields_are_those_of_the_named_objects() -> None:
    """Group, kind, namespace and name must fit; several rules add up."""
    web = {"group": "apps", "kind": "Deployment", "namespace": "shop", "names": ["web"]}
    rules = policy(
        drift={"ignore": [{**web, "pointers": ["/spec/replicas"]}, {**web, "pointers": ["/metadata/labels/a~1b"]}]}
    )
    ref = ObjectRef(api_version="apps/v1", kind="Deployment", namespace="shop", name="web")
    assert rules.ignored(ref) == (("spec", "replicas"), ("metadata", "labels", "a/b"))
    assert rules.ignored(replace(ref, namespace="bank")) == ()
    assert rules.ignored(replace(ref, name="worker")) == ()


@pytest.mark.parametrize(
    "pointer",
    ["spec", "/metadata", "/kind", "/metadata/labels", "/metadata/labels/fairlead.dev~1owner", "/metadata/name/x"],
)
def test_what_makes_an_object_ours_cannot_be_ignored(pointer: str) -> None:
    """Nor what names it, alone or with what is around it."""
    web = {"group": "apps", "kind": "Deployment", "namespace": "shop", "names": ["web"]}
    with pytest.raises(ValidationError):
        policy(drift={"ignore": [{**web, "pointers": [pointer]}]})
