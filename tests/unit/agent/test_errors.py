"""Errors of the agent: one clear sentence each, and whether trying again helps."""

import pytest
import yaml

from fairlead_agent import errors
from fairlead_shared.errors import ErrorCode


def test_missing_right_names_verb_resource_and_namespace() -> None:
    """Everything the operator needs to know."""
    error = errors.MissingRight("patch", "apps", "deployments", "shop")
    assert str(error) == "the agent may not patch deployments.apps in namespace shop"
    assert str(errors.MissingRight("list", "", "nodes", "")) == "the agent may not list nodes in the whole cluster"


def test_rule_of_a_missing_right_is_yaml_for_a_role() -> None:
    """It can be pasted as it is; its head says into what."""
    rule = errors.MissingRight("patch", "apps", "deployments", "shop").rule_yaml()
    assert rule.startswith("# Role in namespace shop\n")
    assert yaml.safe_load(rule) == [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["patch"]}]
    assert errors.MissingRight("get", "", "nodes", "").rule_yaml().startswith("# ClusterRole\n")


def test_conflict_names_some_fields_and_counts_the_rest() -> None:
    """A hundred fields are no sentence."""
    causes = [errors.FieldCause(f"data.{number}", "") for number in range(8)]
    sentence = str(errors.FieldConflict(causes, ["editor"]))
    assert "(editor) owns data.0" in sentence
    assert sentence.endswith("and 3 more")


def test_unknown_kind_offers_what_is_served() -> None:
    """A wrong version is the usual mistake."""
    error = errors.UnknownKind("apps/v1beta1", "Deployment", ["Deployment in apps/v1"])
    assert str(error).endswith("; it serves Deployment in apps/v1")
    assert str(errors.UnknownKind("v1", "Foo")) == "the API server serves no kind Foo in v1"


@pytest.mark.parametrize(
    ("error", "code", "temporary"),
    [
        (errors.Unreachable("https://x", "refused"), ErrorCode.API_SERVER_UNREACHABLE, True),
        (errors.Throttled(3.0), ErrorCode.OVERLOADED, True),
        (errors.AdmissionDenied("quota"), ErrorCode.INVALID_OBJECT, False),
        (errors.Conflict("changed"), ErrorCode.CONFLICT, False),
        (errors.InvalidObject("bad", []), ErrorCode.INVALID_OBJECT, False),
        (errors.Unauthenticated(), ErrorCode.FORBIDDEN, False),
        (errors.Unexpected(418, "teapot"), ErrorCode.INTERNAL, False),
    ],
)
def test_code_and_retry_follow_the_kind(error: errors.KubeError, code: ErrorCode, *, temporary: bool) -> None:
    """Programs match on the code; only absence and overload pass by themselves."""
    assert (error.code, error.temporary) == (code, temporary)
    assert str(error)
