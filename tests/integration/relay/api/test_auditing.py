"""Every route that changes something, tried with effect and without the right: each leaves exactly one record."""

from __future__ import annotations

import asyncio
import re
import uuid
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fairlead_relay.api.rate_limits import AUDITED_PER_MINUTE
from fairlead_shared.bundle import Bundle
from tests.integration.bundles import config_maps, deployment_id
from tests.integration.conftest import Tenant, make_tenant
from tests.integration.relay.api.test_access import VIEWER_MAY_POST, address, routes
from tests.integration.relay.api.test_deployments import deployed
from tests.integration.relay_process import Api, RelayProcess
from tests.integration.scripted_agent import ScriptedAgent, SessionEnded

ANY = {"If-Match": "*"}
ENVIRONMENT = "applications/books/environments/staging"


def records(tenant: Tenant, **wanted: str) -> list[dict[str, Any]]:
    """Return the newest records of a tenant."""
    found: list[dict[str, Any]] = tenant.admin.get(f"{tenant.path}/audit", params={"limit": "500", **wanted}).json()[
        "items"
    ]
    return found


def record_of(tenant: Tenant, answer: httpx.Response) -> dict[str, Any]:
    """Return the one record of a request."""
    (found,) = [one for one in records(tenant) if one["request_id"] == answer.headers["x-request-id"]]
    return found


class Changes:
    """Makes changes, and finds the record of each by its request."""

    def __init__(self, tenant: Tenant) -> None:
        """Take the tenant in which to make them."""
        self.tenant = tenant
        self.made: dict[str, str] = {}
        """Verb → method and path."""

    def make(self, method: str, path: str, body: object = None, **further: Any) -> Any:  # noqa: ANN401  (JSON)
        """Make one as an administrator."""
        answer = self.tenant.admin.request(method, f"{self.tenant.path}/{path}", json=body, **further)
        assert answer.is_success, f"{method} {path}: {answer.text}"
        found = record_of(self.tenant, answer)
        assert (found["outcome"], found["detail"]) == ("succeeded", "")
        assert (found["actor"]["kind"], found["actor"]["role"], found["address"]) == ("token", "admin", "127.0.0.1")
        self.made[found["verb"]] = f"{method} {path}"
        return answer.json() if answer.content else None

    async def let_an_agent_in(self) -> None:
        """Have an agent wait for its approval, and approve it."""
        token = self.make("POST", "clusters", {"name": "vault", "require_approval": True})["enrolment"]["token"]
        key = ec.generate_private_key(ec.SECP256R1())
        with pytest.raises(SessionEnded):
            await ScriptedAgent.enrol(self.tenant.relay.agent_url, token, key)
        shown = self.tenant.admin.ask("GET", f"{self.tenant.path}/clusters/vault")
        self.make("POST", "clusters/vault/approve", {"fingerprint": shown["approval"]["fingerprint"]})
        await ScriptedAgent.enrol(self.tenant.relay.agent_url, token, key)

    def deploy(self, bundle: Bundle) -> str:
        """Upload and deploy a bundle, and return the deployment's id."""
        self.make("PUT", f"bundles/{bundle.sha256}", content=bundle.content)
        body = {"deployment_id": deployment_id(), "bundle_sha256": bundle.sha256}
        return str(self.make("POST", f"{ENVIRONMENT}/deployments", body)["id"])


async def test_every_change_leaves_exactly_one_record(own_relay: RelayProcess) -> None:
    """A route that is new must be called here, and record what it does."""
    tenant = await asyncio.to_thread(make_tenant, own_relay)
    changes = Changes(tenant)
    make = changes.make
    agent = await tenant.enrol()
    async with agent.connect() as connection:
        for _ in range(2):
            await deployed(tenant, connection, config_maps())
    bundle = config_maps()
    make("PUT", f"bundles/{bundle.sha256}", content=bundle.content)
    make("POST", "applications/shop/environments/staging/plans", {"bundle_sha256": bundle.sha256})
    make("POST", "applications/shop/environments/staging/rollback", {"deployment_id": deployment_id()})
    await changes.let_an_agent_in()
    make("PATCH", "clusters/harbour", {"labels": {"team": "a"}}, headers=ANY)
    make("POST", "clusters/harbour/enrolment-tokens")
    make("POST", "clusters/harbour/disable")
    make("POST", "clusters/harbour/enable")
    make("POST", "agents/harbour/revoke")
    make("POST", "applications", {"name": "books"})
    make("PATCH", "applications/books", {"labels": {"team": "a"}}, headers=ANY)
    place = {"name": "staging", "type": "staging", "cluster": "harbour", "namespace": "shop"}
    make("POST", "applications/books/environments", place)
    make("PATCH", ENVIRONMENT, {"labels": {"team": "a"}}, headers=ANY)
    first = changes.deploy(config_maps())
    make("POST", f"deployments/{first}/cancel")
    make("POST", f"jobs/{make('POST', f'deployments/{first}/retry')['job']['id']}/cancel")
    make("DELETE", ENVIRONMENT, {"confirmation": "books/staging"})
    token = make("POST", "tokens", {"name": "CI", "role": "viewer"})
    make("DELETE", f"tokens/{token['id']}")

    assert len(changes.made) == len(changing(tenant.admin)), changes.made
    found = records(tenant)
    told = {record["verb"]: record for record in reversed(found) if record["actor"]["kind"] == "token"}
    assert told["token.create"]["after"]["name"] == told["token.revoke"]["before"]["name"] == "CI"
    assert told["environment.label"]["before"] == {"labels": {}}
    assert told["environment.label"]["after"] == {"labels": {"team": "a"}}
    assert told["deployment.cancel"]["target"] == told["deployment.create"]["target"] == f"deployment/{first}"
    assert told["deployment.create"]["after"]["environment"] == "books/staging"
    assert told["environment.delete"]["target"] == "environment/books/staging"
    by = [(one["actor"]["kind"], one["actor"]["id"], one["verb"]) for one in found]
    assert by.count(("agent", "harbour", "agent.enrol")) == by.count(("agent", "vault", "agent.enrol")) == 1
    assert by[-3:] == [("command", "fairlead-relay token create", "token.create")] * 3
    everything = str(found)
    assert token["token"].rpartition("_")[2] not in everything
    assert tenant.enrolment_token.rpartition("_")[2] not in everything


def changing(api: Api) -> list[tuple[str, str]]:
    """Return every route that changes something: all but reads, and the check that reads by a job."""
    found = [(method, path) for method, path in routes(api) if method not in {"GET", "HEAD"}]
    return [(method, path) for method, path in found if path not in VIEWER_MAY_POST]


def test_every_change_that_is_denied_leaves_exactly_one_record(relay: RelayProcess) -> None:
    """Under the same verb as if it had been made."""
    denied: dict[str, str] = {}
    for part in (0, 1):  # so many are recorded of one token within a minute
        tenant = make_tenant(relay)
        for method, path in changing(tenant.viewer)[part::2]:
            answer = tenant.viewer.request(method, address(path, tenant.organization), json={})
            assert answer.status_code == 403, (method, path, answer.text)
            found = record_of(tenant, answer)
            assert (found["outcome"], found["actor"]["role"]) == ("denied", "viewer"), (method, path)
            assert found["detail"].startswith("forbidden: this needs the role")
            assert found["verb"] != "read"
            denied[found["verb"]] = f"{method} {path}"
    assert len(denied) == len(changing(relay.client())), denied


def test_a_change_that_fails_is_recorded_with_the_reason(tenant: Tenant) -> None:
    """It was allowed, and something was in the way; what was never understood counts, too."""
    cases: tuple[tuple[str, str, object, str], ...] = (
        ("POST", "applications", {"name": "shop"}, "conflict: application 'shop' exists already"),
        ("POST", "deployments/nothing/cancel", None, "not_found: no deployment is named 'nothing'"),
        ("POST", "clusters", {"what": 1}, "invalid_request: "),
        ("PATCH", "clusters/harbour", {"labels": {}}, "precondition_required: "),
    )
    for method, path, body, words in cases:
        answer = tenant.admin.request(method, f"{tenant.path}/{path}", json=body)
        found = record_of(tenant, answer)
        assert found["outcome"] == "failed"
        assert found["detail"].startswith(words)


def test_what_is_denied_is_recorded_and_reads_that_fail_are_not(tenant: Tenant) -> None:
    """A look into another tenant, or past the one application of a token, is in the log of whose token it is."""
    stranger = make_tenant(tenant.relay)
    answer = tenant.viewer.get(f"{stranger.path}/clusters/harbour")
    found = record_of(tenant, answer)
    assert (found["outcome"], found["verb"], found["target"]) == ("denied", "read", "cluster/harbour")
    assert not [one for one in records(stranger) if one["outcome"] == "denied"]
    job = tenant.admin.ask("POST", f"{tenant.environment}/health-checks", {}, 202)["id"]
    tenant.admin.ask("POST", f"{tenant.path}/applications", {"name": "books"}, 201)
    wanted = {"name": "one", "role": "viewer", "application": "books"}
    token = tenant.admin.ask("POST", f"{tenant.path}/tokens", wanted, 201)["token"]
    answer = tenant.relay.client(token).get(f"{tenant.path}/jobs/{job}")
    assert answer.status_code == 404
    assert (record_of(tenant, answer)["outcome"], record_of(tenant, answer)["actor"]["name"]) == ("denied", "one")
    before = len(records(tenant))
    tenant.viewer.ask("GET", f"{tenant.path}/jobs/nothing", expect=404)
    tenant.relay.client().ask("GET", f"{tenant.path}/audit", expect=401)
    assert len(records(tenant)) == before


def test_a_repeated_request_has_no_second_record(tenant: Tenant) -> None:
    """By its idempotency key, or by the id that its client made."""
    key = {"Idempotency-Key": str(uuid.uuid4())}
    answers = [tenant.admin.post(f"{tenant.path}/applications", json={"name": "books"}, headers=key) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert len(records(tenant, verb="application.create")) == 2, "of shop and books"
    bundle = config_maps()
    tenant.admin.put(f"{tenant.path}/bundles/{bundle.sha256}", content=bundle.content)
    body = {"deployment_id": deployment_id(), "bundle_sha256": bundle.sha256}
    for _ in range(2):
        tenant.admin.put(f"{tenant.path}/bundles/{bundle.sha256}", content=bundle.content)
        tenant.admin.ask("POST", f"{tenant.environment}/deployments", body, 202)
    assert len(records(tenant, verb="bundle.upload")) == len(records(tenant, verb="deployment.create")) == 1


def test_a_token_cannot_fill_the_log_with_what_it_may_not(tenant: Tenant) -> None:
    """So many within a minute are recorded, and the last of them says so."""
    for _ in range(AUDITED_PER_MINUTE + 5):
        tenant.viewer.ask("GET", f"{tenant.path}/audit", expect=403)
    found = records(tenant, outcome="denied")
    # The minute may have begun anew meanwhile.
    assert AUDITED_PER_MINUTE <= len(found) < AUDITED_PER_MINUTE + 5
    (last,) = [one for one in found if re.search(r"more of this token's attempts", one["detail"])]
    assert last["actor"]["role"] == "viewer"
