"""
The fastest way to apply objects from Python: bare server-side-apply requests, many at once, from one aiohttp session.

No order, no proof, no inventory: what remains is the API server's own time and a thin client's. Dry-runs take the same
way, so that two passes show what a careful apply costs at least. One watch waits for what the controllers make of it.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import uvloop

from tests.cluster.access import socket_factory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.cluster.cluster import Cluster

AT_ONCE: Final = 16
"""More did not help on two cores, with the API server on the same."""
_WAIT_SECONDS: Final = 300.0
_LINE_BYTES: Final = 4 * 1024 * 1024
_PATHS: Final = {
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "Service": "/api/v1/namespaces/{}/services",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
}


def apply_raw(cluster: Cluster, token: str, manifests: Sequence[Mapping[str, Any]], *, dry_run: bool) -> float:
    """
    Apply objects, all in one pass.

    Args:
        cluster: Where.
        token: Bearer token of somebody who may.
        manifests: What to apply, each in the namespace that it names.
        dry_run: Whether nothing is to change.
    Returns: Seconds, from the first request to the last answer; connections are opened within.
    """
    return uvloop.run(_apply(cluster, token, manifests, dry_run=dry_run))


async def _apply(cluster: Cluster, token: str, manifests: Sequence[Mapping[str, Any]], *, dry_run: bool) -> float:
    context = ssl.create_default_context(cafile=cluster.ca_file)
    connector = aiohttp.TCPConnector(ssl=context, limit=AT_ONCE, socket_factory=socket_factory(cluster.netns))
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/apply-patch+yaml"}
    query = {"fieldManager": "raw", "force": "true", **({"dryRun": "All"} if dry_run else {})}
    async with aiohttp.ClientSession(cluster.server, connector=connector, headers=headers) as session:

        async def one(manifest: Mapping[str, Any]) -> None:
            metadata = manifest["metadata"]
            path = f"{_PATHS[manifest['kind']].format(metadata['namespace'])}/{metadata['name']}"
            async with session.patch(path, params=query, data=json.dumps(manifest)) as answer:
                text = await answer.text()
                if not answer.ok:
                    raise OSError(f"PATCH {path}: {answer.status} {text[:300]}")

        began = time.perf_counter()
        await asyncio.gather(*(one(manifest) for manifest in manifests))
        return time.perf_counter() - began


def wait_raw(cluster: Cluster, token: str, manifests: Sequence[Mapping[str, Any]]) -> float:
    """
    Wait until the controllers have answered each Deployment among some objects, through one watch.

    Args:
        cluster: Where.
        token: Bearer token of somebody who may read the Deployments of all namespaces.
        manifests: What was applied.
    Returns: Seconds.
    """
    return uvloop.run(_wait(cluster, token, manifests))


async def _wait(cluster: Cluster, token: str, manifests: Sequence[Mapping[str, Any]]) -> float:
    context = ssl.create_default_context(cafile=cluster.ca_file)
    connector = aiohttp.TCPConnector(ssl=context, socket_factory=socket_factory(cluster.netns))
    awaited = {_place(one["metadata"]): one["spec"]["replicas"] for one in manifests if one["kind"] == "Deployment"}
    began = time.perf_counter()
    async with (
        asyncio.timeout(_WAIT_SECONDS),
        aiohttp.ClientSession(
            cluster.server,
            connector=connector,
            headers={"Authorization": f"Bearer {token}"},
            timeout=aiohttp.ClientTimeout(total=_WAIT_SECONDS),
            read_bufsize=_LINE_BYTES,
        ) as session,
        session.get("/apis/apps/v1/deployments", params={"watch": "1"}) as answer,
    ):
        answer.raise_for_status()
        async for line in answer.content:
            live = json.loads(line)["object"]
            replicas, status = awaited.get(_place(live["metadata"]), 0), live.get("status", {})
            is_seen = status.get("observedGeneration", 0) >= live["metadata"]["generation"]
            if is_seen and status.get("updatedReplicas", 0) >= replicas:
                awaited.pop(_place(live["metadata"]), None)
            if not awaited:
                return time.perf_counter() - began
    raise OSError(f"the watch ended before {len(awaited)} Deployments were answered")


def _place(metadata: Mapping[str, Any]) -> tuple[str, str]:
    return metadata["namespace"], metadata["name"]
