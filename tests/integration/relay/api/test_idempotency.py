"""Idempotency keys in the real API: one effect, one answer, and no secret in the store."""

from __future__ import annotations

import secrets
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from fairlead_relay.api.access import Caller
from fairlead_relay.api.idempotency import IdempotencyKeys
from fairlead_relay.store.idempotency import Claim
from fairlead_relay.store.tokens import Role
from tests.integration.bundles import config_maps, deployment_id, upload
from tests.integration.conftest import Tenant, make_tenant
from tests.integration.relay_process import RelayProcess


def post(tenant: Tenant, key: str, name: str = "CI", path: str = "tokens", **further: str) -> httpx.Response:
    """Ask for a token, or what else there is to be made, with a key."""
    body = {"name": name, "role": "viewer"} if path == "tokens" else {"name": name}
    return tenant.admin.post(f"{tenant.path}/{path}", json=body, headers={"Idempotency-Key": key, **further})


def test_the_same_request_again_has_one_effect_and_the_same_answer(tenant: Tenant) -> None:
    """Also where the answer holds a secret that is shown once: it is the same one."""
    key = secrets.token_hex()
    first, second = post(tenant, key), post(tenant, f'"{key}"')
    assert (first.status_code, first.json()) == (second.status_code, second.json()) == (201, first.json())
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert second.headers["content-type"] == first.headers["content-type"]
    made = [one for one in tenant.admin.ask("GET", f"{tenant.path}/tokens")["items"] if one["name"] == "CI"]
    assert len(made) == 1
    database = b"".join(file.read_bytes() for file in tenant.relay.data_dir.glob("relay.db*"))
    assert first.json()["id"].encode() in database
    assert first.json()["token"].encode() not in database


def test_another_request_with_the_same_key_is_refused(tenant: Tenant) -> None:
    """A client that reuses keys would be given somebody else's answer."""
    key = secrets.token_hex()
    assert post(tenant, key).status_code == 201
    for other in (post(tenant, key, name="other"), post(tenant, key, path="applications")):
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


def test_a_key_belongs_to_its_token(tenant: Tenant) -> None:
    """Another one may use the same, and is not given this one's answer."""
    key = secrets.token_hex()
    first = post(tenant, key).json()
    again = tenant.relay.client(tenant.relay.token("admin", tenant.organization))
    wanted = {"name": "CI", "role": "viewer"}
    second = again.post(f"{tenant.path}/tokens", json=wanted, headers={"Idempotency-Key": key})
    assert second.status_code == 201
    assert second.json()["id"] != first["id"]
    assert tenant.relay.client().post(f"{tenant.path}/tokens", headers={"Idempotency-Key": key}).status_code == 401


def test_of_many_at_once_one_is_carried_out(tenant: Tenant) -> None:
    """The others are told that it is under way, or given its answer."""
    key = secrets.token_hex()
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: post(tenant, key), range(16)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} <= {"idempotency_key_busy"}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1


def test_a_mistake_is_answered_the_same_again_and_a_refused_caller_is_not_kept(tenant: Tenant) -> None:
    """What was wrong with a request stays wrong; what its caller may do can change."""
    key = secrets.token_hex()
    first, second = (post(tenant, key, name="shop", path="applications") for _ in range(2))
    assert (first.status_code, first.json()) == (second.status_code, second.json()) == (409, first.json())
    for _ in range(2):
        refused = tenant.viewer.post(f"{tenant.path}/tokens", json={}, headers={"Idempotency-Key": key})
        assert refused.status_code == 403
        assert "idempotent-replayed" not in refused.headers


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
def test_a_key_that_is_none_is_refused(tenant: Tenant, key: str) -> None:
    """In silence it would protect from nothing."""
    answer = post(tenant, key)
    assert (answer.status_code, answer.json()["field"]) == (422, "idempotency-key")


def test_a_body_that_is_too_large_is_refused_with_a_key_too(tenant: Tenant) -> None:
    """By the route, or before all of it was read."""
    for size in (65 << 10, 5 << 20):
        headers = {"Idempotency-Key": secrets.token_hex(), "Content-Type": "application/json"}
        answer = tenant.admin.post(f"{tenant.path}/tokens", content=b" " * size, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def test_a_defect_is_answered_and_not_kept() -> None:
    """The next try may meet a relay that is mended."""
    written: list[str] = []

    class Store:
        async def write(self, run: Any) -> Any:  # noqa: ANN401  (a write's own result)
            written.append(run.__code__.co_names[0])
            return Claim.FRESH

    async def app(_scope: Any, _receive: Any, send: Any) -> None:  # noqa: ANN401  (ASGI)
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})
        raise RuntimeError("a defect")

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    sent: list[Any] = []

    async def send(message: Any) -> None:  # noqa: ANN401  (ASGI's)
        sent.append(message)

    services: Any = SimpleNamespace(store=Store(), clock=lambda: 0.0)
    caller = Caller("id", "acme", Role.ADMIN, None, None, "")
    headers = [(b"idempotency-key", b"key"), (b"authorization", b"Bearer flt")]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers, "state": {"admitted": caller}}
    with pytest.raises(RuntimeError):
        await IdempotencyKeys(app, services)(scope, receive, send)
    assert written == ["claim_key", "release_key"]
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]


def test_a_request_is_not_carried_out_twice_though_its_relay_died_before_the_answer(own_relay: RelayProcess) -> None:
    """The next relay says so; a deployment is answered by its own id."""
    tenant = make_tenant(own_relay)
    bundle = config_maps()
    upload(tenant.deployer, tenant.organization, bundle)
    body = {"deployment_id": deployment_id(), "bundle_sha256": bundle.sha256}

    def deploy() -> httpx.Response:
        return tenant.deployer.post(f"{tenant.environment}/deployments", json=body, headers={"Idempotency-Key": "d"})

    def make_token() -> httpx.Response:
        return post(tenant, "k", "made-once")

    for ask in (make_token, deploy):
        own_relay.kill()
        own_relay.module = "tests.integration.relay.api.dying_relay"
        own_relay.start()
        with pytest.raises(httpx.TransportError):
            ask()
        own_relay.kill()
        own_relay.module = "fairlead_relay"
        own_relay.start()
        busy = ask()
        assert (busy.status_code, busy.json()["code"]) == (409, "idempotency_key_busy")
    with sqlite3.connect(own_relay.data_dir / "relay.db") as database:
        database.execute("UPDATE idempotency_keys SET expires_at = expires_at - 61")
    database.close()
    lost = make_token()
    assert (lost.status_code, lost.json()["code"]) == (409, "idempotency_answer_lost")
    made = tenant.admin.ask("GET", f"{tenant.path}/tokens?limit=100")["items"]
    assert [one["name"] for one in made].count("made-once") == 1
    again = deploy()
    assert (again.status_code, again.json()["id"]) == (202, body["deployment_id"])
