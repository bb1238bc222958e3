"""Bundles and deployment ids for tests of the relay."""

from __future__ import annotations

import secrets

from fairlead_shared.bundle import Bundle, make_bundle
from tests.integration.relay_process import Api


def config_maps(count: int = 1, namespace: str = "shop", size_bytes: int = 10) -> Bundle:
    """Return a bundle of so many ConfigMaps, each with random content of a size."""
    return make_bundle(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"settings-{number}", "namespace": namespace},
            "data": {"content": secrets.token_hex(size_bytes // 2)},
        }
        for number in range(count)
    )


def upload(api: Api, organization: str, bundle: Bundle, expect: int = 201) -> None:
    """Send a bundle to the relay."""
    answer = api.put(f"/v1/organizations/{organization}/bundles/{bundle.sha256}", content=bundle.content)
    assert answer.status_code == expect, answer.text


def deployment_id() -> str:
    """Return a fresh id, as a client makes it."""
    return secrets.token_hex(13)


def deploy(api: Api, environment: str, bundle: Bundle, **further: object) -> dict[str, object]:
    """Ask for a deployment of an uploaded bundle."""
    body = {"deployment_id": deployment_id(), "bundle_sha256": bundle.sha256, **further}
    made: dict[str, object] = api.ask("POST", f"{environment}/deployments", body, 202)
    return made
