"""Labels in the real API: of clusters, applications and environments; ETags keep changes from being lost."""

from __future__ import annotations

import pytest

from tests.integration.conftest import Tenant

THINGS = ["clusters/harbour", "applications/shop", "applications/shop/environments/staging"]


@pytest.mark.parametrize("thing", THINGS)
def test_two_who_change_the_same_thing_notice_each_other(tenant: Tenant, thing: str) -> None:
    """The second is told, and changes it after another look."""
    path = f"{tenant.path}/{thing}"
    shown = tenant.viewer.get(path)
    assert shown.json()["labels"] == {}
    tag = shown.headers["etag"]
    first = tenant.admin.patch(path, json={"labels": {"team": "a", "tier": "gold"}}, headers={"If-Match": tag})
    assert (first.status_code, first.json()["labels"]) == (200, {"team": "a", "tier": "gold"})
    second = tenant.admin.patch(path, json={"labels": {"team": "b"}}, headers={"If-Match": tag})
    assert (second.status_code, second.json()["code"]) == (412, "precondition_failed")
    again = tenant.viewer.get(path)
    assert again.headers["etag"] == first.headers["etag"] != tag
    headers = {"If-Match": f'W/"9", {again.headers["etag"]}'}
    third = tenant.admin.patch(path, json={"labels": {"team": "b", "tier": None}}, headers=headers)
    assert (third.status_code, third.json()["labels"]) == (200, {"team": "b"})
    assert tenant.admin.patch(path, json={"labels": {}}, headers={"If-Match": "*"}).status_code == 200


@pytest.mark.parametrize("thing", THINGS)
def test_a_change_says_what_it_is_a_change_of(tenant: Tenant, thing: str) -> None:
    """Else the last one wins, and nobody knows."""
    path = f"{tenant.path}/{thing}"
    unconditional = tenant.admin.patch(path, json={"labels": {}})
    assert (unconditional.status_code, unconditional.json()["code"]) == (428, "precondition_required")
    for tag in ('W/"0"', "0", '"other"', ""):
        answer = tenant.admin.patch(path, json={"labels": {}}, headers={"If-Match": tag})
        assert answer.status_code == 412, tag
    for labels in ({"not valid": "x"}, {"a": "-"}, {"a": 1}):
        answer = tenant.admin.patch(path, json={"labels": labels}, headers={"If-Match": "*"})
        assert answer.status_code == 422, labels
    assert tenant.deployer.patch(path, json={"labels": {}}, headers={"If-Match": "*"}).status_code == 403
    missing = tenant.admin.patch(f"{path}-not", json={"labels": {}}, headers={"If-Match": "*"})
    assert missing.status_code == 404


def test_lists_are_filtered_by_labels(tenant: Tenant) -> None:
    """As kubectl does it, over pages; a new thing has the labels that it was created with."""
    for number in range(5):
        labels = {"tier": "gold" if number % 2 else "silver"}
        tenant.admin.ask("POST", f"{tenant.path}/applications", {"name": f"a{number}", "labels": labels}, 201)
        tenant.admin.ask("POST", f"{tenant.path}/clusters", {"name": f"c{number}", "labels": labels}, 201)
        environment = {"name": f"e{number}", "type": "t", "cluster": "harbour", "namespace": "n", "labels": labels}
        tenant.admin.ask("POST", f"{tenant.path}/applications/shop/environments", environment, 201)
    for things, letter in (("applications", "a"), ("clusters", "c"), ("applications/shop/environments", "e")):
        query = f"{tenant.path}/{things}?selector=tier%20in%20(silver)&limit=2"
        page = tenant.viewer.ask("GET", query)
        assert [item["name"] for item in page["items"]] == [f"{letter}0", f"{letter}2"]
        page = tenant.viewer.ask("GET", f"{query}&cursor={page['next_cursor']}")
        assert ([item["name"] for item in page["items"]], page["next_cursor"]) == ([f"{letter}4"], None)
        assert len(tenant.viewer.ask("GET", f"{tenant.path}/{things}?selector=")["items"]) == 6
        assert tenant.viewer.get(f"{tenant.path}/{things}?selector=a>1").json()["field"] == "selector"
