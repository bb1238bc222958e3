"""
Deploys one bundle of nearly 16 MiB: what a benchmark runs beside what it measures, in a process of its own.

Reads JSON from stdin: `api_url`, `ca_file`, `token`, `organization`, `environment` (its path in the API). Prints
`ready` once the bundle is made, deploys it when a line comes, and prints the seconds until the deployment is accepted.
"""

from __future__ import annotations

import json
import random
import ssl
import sys
import time
from typing import Final

import httpx

from fairlead_shared.bundle import Bundle, make_bundle
from tests.integration.bundles import deployment_id

OBJECTS: Final = 5_000
OBJECT_BYTES: Final = 3_300


def large_bundle() -> Bundle:
    """Return a bundle of 5,000 ConfigMaps, of which no two are alike."""
    source = random.Random()
    return make_bundle(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"settings-{number:04}", "namespace": "shop"},
            "data": {f"key-{line}": source.randbytes(100).hex() for line in range(OBJECT_BYTES // 220)},
        }
        for number in range(OBJECTS)
    )


def main() -> None:
    """Make it, wait for the word, deploy it."""
    facts = json.loads(sys.stdin.readline())
    bundle = large_bundle()
    headers = {"Authorization": f"Bearer {facts['token']}"}
    context = ssl.create_default_context(cafile=facts["ca_file"])
    with httpx.Client(base_url=facts["api_url"], headers=headers, verify=context, timeout=60) as api:
        print("ready", len(bundle.content), flush=True)
        sys.stdin.readline()
        began = time.monotonic()
        path = f"/v1/organizations/{facts['organization']}/bundles/{bundle.sha256}"
        api.put(path, content=bundle.content).raise_for_status()
        body = {"deployment_id": deployment_id(), "bundle_sha256": bundle.sha256}
        api.post(f"{facts['environment']}/deployments", json=body).raise_for_status()
        print(f"{time.monotonic() - began:.3f}", flush=True)


if __name__ == "__main__":
    main()
