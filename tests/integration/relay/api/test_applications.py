"""Applications and environments of the real API."""

from tests.integration.conftest import Tenant


def test_applications_are_created_shown_and_listed_by_name(tenant: Tenant) -> None:
    """Pages follow one another without gap or repetition."""
    for name in ("beta", "alpha"):
        created = tenant.admin.ask("POST", f"{tenant.path}/applications", {"name": name}, 201)
        assert tenant.viewer.ask("GET", f"{tenant.path}/applications/{name}") == created
    first = tenant.viewer.ask("GET", f"{tenant.path}/applications?limit=2")
    assert [item["name"] for item in first["items"]] == ["alpha", "beta"]
    second = tenant.viewer.ask("GET", f"{tenant.path}/applications?limit=2&cursor={first['next_cursor']}")
    assert ([item["name"] for item in second["items"]], second["next_cursor"]) == (["shop"], None)


def test_an_environment_names_its_type_cluster_and_namespace(tenant: Tenant) -> None:
    """What runs there is unknown until something was deployed."""
    shown = tenant.viewer.ask("GET", tenant.environment)
    assert (shown["type"], shown["cluster"], shown["namespace"]) == ("staging", "harbour", "shop")
    assert (shown["sealing_key"], shown["current"], shown["latest"]) == (None, None, None)
    listed = tenant.viewer.ask("GET", f"{tenant.path}/applications/shop/environments")
    assert listed["items"] == [shown]


def test_an_environment_needs_an_application_and_a_cluster_that_exist(tenant: Tenant) -> None:
    """The sentence names which does not."""
    body = {"name": "prod", "type": "production", "cluster": "nowhere", "namespace": "shop"}
    found = tenant.admin.ask("POST", f"{tenant.path}/applications/shop/environments", body, 404)
    assert "nowhere" in found["detail"]
    found = tenant.admin.ask("POST", f"{tenant.path}/applications/nothing/environments", body, 404)
    assert "nothing" in found["detail"]
