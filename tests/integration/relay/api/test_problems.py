"""Errors of the real API: problem documents, whoever raised them."""

import pytest

from tests.integration.conftest import Tenant
from tests.integration.relay_process import Api


def problem(api: Api, method: str, path: str, expect: int, **request: object) -> dict[str, object]:
    """Send a request that must fail, and return its problem."""
    answer = api.request(method, path, **request)  # type: ignore[arg-type]
    assert answer.status_code == expect, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, object] = answer.json()
    assert found["status"] == expect
    assert found["title"]
    assert found["detail"]
    return found


def test_an_unknown_path_and_an_unknown_name_are_not_found(tenant: Tenant) -> None:
    """The sentence names what was not found."""
    assert problem(tenant.viewer, "GET", "/v1/nothing", 404)["code"] == "not_found"
    found = problem(tenant.viewer, "GET", f"{tenant.path}/applications/bookshop", 404)
    assert "bookshop" in str(found["detail"])


def test_a_method_that_is_not_allowed_is_405(tenant: Tenant) -> None:
    """The framework's own refusals have the same form."""
    assert problem(tenant.viewer, "PATCH", "/v1/whoami", 405)["code"] == "method_not_allowed"


def test_a_taken_name_is_a_conflict(tenant: Tenant) -> None:
    """The sentence names what is in the way."""
    found = problem(tenant.admin, "POST", f"{tenant.path}/applications", 409, json={"name": "shop"})
    assert found["code"] == "conflict"


@pytest.mark.parametrize(
    ("body", "field"),
    [({"name": "Not-Valid"}, "name"), ({}, "name"), ({"name": 7}, "name")],
)
def test_an_invalid_body_names_its_field(tenant: Tenant, body: dict[str, object], field: str) -> None:
    """A client can point at the field."""
    found = problem(tenant.admin, "POST", f"{tenant.path}/applications", 422, json=body)
    assert (found["code"], found["field"]) == ("invalid_request", field)


def test_a_body_that_is_no_json_says_where(tenant: Tenant) -> None:
    """The place of the mistake is in the sentence."""
    headers = {"Content-Type": "application/json"}
    found = problem(tenant.admin, "POST", f"{tenant.path}/applications", 422, content=b'{"name', headers=headers)
    assert "no JSON" in str(found["detail"])


@pytest.mark.parametrize("is_announced", [True, False])
def test_a_body_over_the_limit_is_refused(tenant: Tenant, *, is_announced: bool) -> None:
    """Whether the size is announced or found out on the way."""
    content = b" " * (65 * 1024)
    body = content if is_announced else iter([content])
    headers = {"Content-Type": "application/json"}
    found = problem(tenant.admin, "POST", f"{tenant.path}/applications", 413, content=body, headers=headers)
    assert found["code"] == "too_large"
