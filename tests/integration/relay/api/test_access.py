"""Every route of the real API, tried with the wrong token or none: denied unless the route says otherwise."""

import re
from pathlib import Path
from typing import Any

import pytest

from fairlead_shared.canonical import canonical_json
from tests.integration.bundles import config_maps, deploy, upload
from tests.integration.conftest import Tenant, make_tenant
from tests.integration.relay_process import Api, RelayProcess

PUBLIC = {("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/v1/version")}
VIEWER_MAY_POST = {
    "/v1/organizations/{organization}/applications/{application}/environments/{environment}/health-checks"
}
ADMINS_ALONE = re.compile(r"/tokens$|/audit$")
"""Even to read."""
DEPLOYER_MAY = re.compile(r"/bundles/|/deployments|/plans|/rollback|/cancel")


@pytest.fixture(scope="module")
def place(relay: RelayProcess) -> Tenant:
    """Make one tenant for all routes."""
    return make_tenant(relay)


def routes(api: Api) -> list[tuple[str, str]]:
    """List every method and path that the API publishes."""
    paths = api.ask("GET", "/v1/openapi.json")["paths"]
    return [(method.upper(), path) for path, item in paths.items() for method in item]


NARROWED = re.compile(r"/whoami|/bundles/|/organizations(/\{organization\})?$|/applications$|/jobs$")
"""Routes that a token for one application may use though their path names none."""


def address(path: str, organization: str, application: str = "some") -> str:
    """Fill in a route's parameters."""
    filled = path.replace("{organization}", organization).replace("{sha256}", "0" * 64)
    filled = filled.replace("{application}", application)
    return re.sub(r"\{[a-z_]+\}", "some", filled)


def send(api: Api, method: str, path: str, organization: str, application: str = "some") -> int:
    """Call a route with a body that means nothing, and return the status."""
    answer = api.request(method, address(path, organization, application), content=canonical_json({}), headers={
        "Content-Type": "application/json"})  # fmt: skip
    if answer.status_code >= 400 and method != "HEAD":
        assert answer.headers["content-type"] == "application/problem+json", (method, path, answer.text)
        assert answer.json()["code"]
    return answer.status_code


def test_no_route_but_the_public_ones_answers_without_a_token(place: Tenant) -> None:
    """Deny by default: a new route without a mark would fail here."""
    stranger = place.relay.client()
    found = routes(stranger)
    assert len(found) > 20
    for method, path in found:
        status = send(stranger, method, path, place.organization)
        assert (status == 200) if (method, path) in PUBLIC else (status == 401), (method, path, status)


def test_no_route_answers_to_a_token_of_another_organization(place: Tenant) -> None:
    """An administrator of one tenant learns nothing of another, not even whether it exists."""
    stranger = place.relay.client(place.relay.token("admin", "strangers"))
    for organization in (place.organization, "nobody"):
        for method, path in routes(stranger):
            if "{organization}" in path:
                assert send(stranger, method, path, organization) == 403, (method, path)


def test_a_viewer_changes_nothing_and_a_deployer_creates_nothing(place: Tenant) -> None:
    """Each role has what it needs: a viewer reads, a deployer deploys, an administrator creates."""
    for method, path in routes(place.viewer):
        if (method, path) in PUBLIC or "events" in path:
            continue
        is_change = method not in {"GET", "HEAD"} and path not in VIEWER_MAY_POST
        is_change = is_change or ADMINS_ALONE.search(path) is not None
        assert (send(place.viewer, method, path, place.organization) == 403) == is_change, (method, path)
        is_admins = is_change and not DEPLOYER_MAY.search(path)
        assert (send(place.deployer, method, path, place.organization) == 403) == is_admins, (method, path)


@pytest.mark.parametrize("role", ["admin", "deployer", "viewer"])
def test_a_token_for_one_application_opens_nothing_else(place: Tenant, role: str) -> None:
    """Where the path names another one or none it is refused, and a job of another one does not exist for it."""
    bundle = config_maps()
    upload(place.deployer, place.organization, bundle)
    others: Any = deploy(place.deployer, place.environment, bundle)
    own = f"books-{role}"
    place.admin.ask("POST", f"{place.path}/applications", {"name": own}, 201)
    wanted = {"name": "for one", "role": role, "application": own}
    token = place.admin.ask("POST", f"{place.path}/tokens", wanted, 201)["token"]
    caller = place.relay.client(token)
    assert caller.ask("GET", f"{place.path}/applications")["items"] == [
        caller.ask("GET", f"{place.path}/applications/{own}")
    ]
    for method, path in routes(place.viewer):
        if (method, path) in PUBLIC:
            continue
        if "{application}" in path:
            assert send(caller, method, path, place.organization, "shop") == 403, (method, path)
            is_change = method not in {"GET", "HEAD"} and path not in VIEWER_MAY_POST
            may = role == "admin" or not is_change or (role == "deployer" and bool(DEPLOYER_MAY.search(path)))
            assert (send(caller, method, path, place.organization, own) != 403) == may, (method, path)
        elif "{job_id}" in path or "{deployment_id}" in path:
            of_other = path.replace("{job_id}", others["job"]["id"]).replace("{deployment_id}", others["id"])
            assert send(caller, method, of_other, place.organization) in {403, 404}, (method, path)
        elif not NARROWED.search(path) or (method, path.rpartition("/")[2]) == ("POST", "applications"):
            assert send(caller, method, path, place.organization) == 403, (method, path)


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Basic Zm9v", "Bearer nonsense", "Bearer flt_aaaaaaaaaaaaaaaa_" + "b" * 32]
)
def test_what_is_no_token_is_unauthenticated(relay: RelayProcess, header: str) -> None:
    """The answer is the same for an unknown token and for text that is none."""
    answer = relay.client().get("/v1/whoami", headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["code"] == "unauthenticated"


def test_a_token_with_a_wrong_secret_is_unauthenticated(place: Tenant) -> None:
    """The id alone is no credential."""
    token = place.admin.headers["Authorization"].removeprefix("Bearer ")
    forged = place.relay.client(token[:-1] + ("a" if token[-1] != "a" else "b"))
    forged.ask("GET", "/v1/whoami", expect=401)


def test_whoami_says_what_the_token_allows(place: Tenant) -> None:
    """A client can tell its user what they may do before they try."""
    shown = place.deployer.ask("GET", "/v1/whoami")
    assert (shown["organization"], shown["role"], shown["application"]) == (place.organization, "deployer", None)
    assert shown["expires_at"].endswith("Z")


def test_a_token_that_asks_too_much_is_told_to_wait_and_others_are_not(tmp_path: Path) -> None:
    """Nor does it matter what came from the same address without a good token."""
    limited = RelayProcess(tmp_path / "data")
    limited.environment = {"FAIRLEAD_RELAY_REQUESTS_PER_MINUTE": "5", "FAIRLEAD_RELAY_FAILURES_PER_MINUTE": "3"}
    limited.start()
    try:
        busy, other, stranger = limited.client(limited.token()), limited.client(limited.token()), limited.client()
        answers = [busy.get("/v1/whoami") for _ in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429]
        assert answers[0].headers["ratelimit"].startswith('"token";r=4;t=')
        assert answers[-1].json()["code"] == "rate_limited"
        assert 0 < int(answers[-1].headers["retry-after"]) <= 60
        assert [stranger.get("/v1/whoami").status_code for _ in range(4)] == [401] * 3 + [429]
        assert other.get("/v1/whoami").status_code == 200
        assert stranger.get("/v1/version").status_code == 200
    finally:
        limited.close()
