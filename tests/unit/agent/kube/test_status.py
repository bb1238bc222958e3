"""Answers of the API server, as a real one gave them, become the errors that tell them apart."""

import json
from typing import Any

import pytest

from fairlead_agent import errors
from fairlead_agent.kube.status import error_of
from fairlead_shared.errors import ErrorCode


def answer(status: int, message: str = "", reason: str = "", causes: list[dict[str, str]] | None = None) -> Any:  # noqa: ANN401
    """Return the error for a Status object."""
    body = {"kind": "Status", "message": message, "reason": reason, "details": {"causes": causes or []}}
    return error_of(status, json.dumps(body).encode(), "ConfigMap shop/a", 0.0)


def test_rbac_denial_is_a_missing_right_with_its_rule() -> None:
    """Verb, group, resource and namespace are taken from RBAC's sentence."""
    error = answer(
        403,
        'deployments.apps "web" is forbidden: User "system:serviceaccount:fairlead:agent" cannot patch resource '
        '"deployments" in API group "apps" in the namespace "shop"',
        "Forbidden",
    )
    assert isinstance(error, errors.MissingRight)
    assert (error.verb, error.group, error.resource, error.namespace) == ("patch", "apps", "deployments", "shop")


def test_rbac_denial_at_cluster_scope_has_no_namespace() -> None:
    """A cluster-scoped request needs a ClusterRole."""
    error = answer(403, 'User "x" cannot list resource "nodes" in API group "" at the cluster scope', "Forbidden")
    assert isinstance(error, errors.MissingRight)
    assert error.rule_yaml().startswith("# ClusterRole\n")


def test_other_denials_come_from_admission() -> None:
    """Quota and Pod Security answer 403 as well, in their own words."""
    error = answer(403, 'pods "web" is forbidden: exceeded quota: few', "Forbidden")
    assert isinstance(error, errors.AdmissionDenied)
    assert "exceeded quota" in str(error)


def test_conflict_with_other_managers_names_them_and_their_fields() -> None:
    """Field conflicts are not stale versions."""
    causes = [{"reason": "FieldManagerConflict", "message": 'conflict with "editor" using v1', "field": ".data.colour"}]
    error = answer(409, "Apply failed with 1 conflict", "Conflict", causes)
    assert isinstance(error, errors.FieldConflict)
    assert error.managers == ("editor",)
    assert [cause.field for cause in error.causes] == ["data.colour"]


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (401, "Unauthorized", errors.Unauthenticated),
        (404, "NotFound", errors.NotFound),
        (409, "AlreadyExists", errors.AlreadyExists),
        (409, "Conflict", errors.Conflict),
        (410, "Expired", errors.WatchExpired),
        (429, "TooManyRequests", errors.Throttled),
        (418, "", errors.Unexpected),
    ],
)
def test_each_status_has_its_error(status: int, reason: str, kind: type[errors.KubeError]) -> None:
    """Status and reason decide."""
    assert type(answer(status, "said", reason)) is kind


def test_invalid_object_keeps_its_causes() -> None:
    """Each field the server blames is kept with what is wrong with it."""
    causes = [{"reason": "FieldValueInvalid", "message": "Invalid value: 99999", "field": "spec.ports[0].port"}]
    error = answer(422, "Service is invalid", "Invalid", causes)
    assert error.code is ErrorCode.INVALID_OBJECT
    assert error.causes == (errors.FieldCause("spec.ports[0].port", "Invalid value: 99999"),)


def test_words_do_not_make_a_field_immutable() -> None:
    """They differ by kind and version; preflight proves it."""
    error = answer(422, 'Deployment "web" is invalid: spec.selector: Invalid value: {}: field is immutable', "Invalid")
    assert error.code is ErrorCode.INVALID_OBJECT


def test_object_that_does_not_fit_its_schema_is_invalid_though_the_status_is_500() -> None:
    """Server-side apply answers 500 to a typing error; each line of it is a cause."""
    error = answer(
        500,
        "failed to create typed patch object (shop/web; apps/v1, Kind=Deployment): errors:\n"
        "  .spec.replicas: expected numeric (int or float), got string\n  .spoc: field not declared in schema",
    )
    assert isinstance(error, errors.InvalidObject)
    assert [cause.field for cause in error.causes] == ["spec.replicas", "spoc"]


def test_single_schema_error_is_one_cause() -> None:
    """With one mistake the server writes one line."""
    error = answer(500, "failed to create typed patch object (shop/a; /v1, Kind=ConfigMap): .data.a: expected string")
    assert [(cause.field, cause.message) for cause in error.causes] == [("data.a", "expected string")]


def test_unknown_fields_of_strict_validation_become_causes() -> None:
    """Strict validation names fields in its text only."""
    error = answer(400, 'strict decoding error: unknown field "spec.x", unknown field "spec.y"', "BadRequest")
    assert [cause.field for cause in error.causes] == ["spec.x", "spec.y"]


def test_webhook_that_fails_is_a_denial_by_admission() -> None:
    """A webhook that cannot be called answers 500; it is admission all the same."""
    assert isinstance(answer(500, 'failed calling webhook "x.example.com"'), errors.AdmissionDenied)


def test_a_value_of_the_wrong_type_is_the_objects_mistake() -> None:
    """The API server says 500 where its schema takes a value and its own type does not."""
    said = "unable to convert unstructured object to /v1, Kind=Service: json: cannot unmarshal object into Go value"
    error = answer(500, f"failed to convert new object (shop/web; /v1, Kind=Service) to the proper version: {said}")
    assert isinstance(error, errors.InvalidObject)
    assert said in str(error)


def test_a_version_that_is_gone_is_named() -> None:
    """A custom resource that still has fields managed in it is refused with 500, whoever asks."""
    error = answer(500, "request to convert CR to an invalid group/version: boats.example.com/v1beta1")
    assert isinstance(error, errors.StaleFields)
    assert error.version == "boats.example.com/v1beta1"


def test_answer_that_is_no_status_object_is_quoted() -> None:
    """A proxy's HTML page is cut, not parsed."""
    error = error_of(502, b"<html>" + b"x" * 10_000, "pods", 0.0)
    assert isinstance(error, errors.Unexpected)
    assert len(str(error)) < 400


def test_retry_after_is_kept() -> None:
    """What the server asks for is what is waited."""
    error = error_of(429, b"{}", "pods", 7.0)
    assert isinstance(error, errors.Throttled)
    assert error.retry_after_seconds == 7.0
