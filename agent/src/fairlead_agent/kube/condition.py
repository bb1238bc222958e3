"""Wait, by a watch, until one object has a condition, or is gone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from fairlead_agent.errors import Unreachable, WatchExpired
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.resources import Resource


def has_condition(manifest: Mapping[str, Any], condition: str) -> bool:
    """Tell whether an object's status has a condition of this type with status True."""
    conditions = (manifest.get("status") or {}).get("conditions") or []
    return any(entry.get("type") == condition and entry.get("status") == "True" for entry in conditions)


async def until(
    client: KubeClient, resource: Resource, manifest: Mapping[str, Any], condition: str, *, seconds: float
) -> None:
    """
    Wait until an object has a condition.

    Args:
        client: Of the cluster.
        resource: Where its kind is served.
        manifest: The object as last seen.
        condition: Type of the condition that must be True.
        seconds: Time limit, > 0.
    Raises: TimeoutError: not in time. KubeError: it may not be watched, or is gone.
    """
    namespace, name = manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"]

    def is_last(event: Mapping[str, Any]) -> bool:
        return has_condition(event.get("object") or {}, condition)

    async with asyncio.timeout(seconds):
        while not has_condition(manifest, condition):
            if await _watch(client, resource, manifest, seconds, is_last):
                return
            manifest = await client.get(resource, namespace, name)


async def until_gone(client: KubeClient, resource: Resource, manifest: Mapping[str, Any], *, seconds: float) -> None:
    """
    Wait until an object whose deletion was asked for is gone.

    Args:
        client: Of the cluster.
        resource: Where its kind is served.
        manifest: The object as last seen.
        seconds: Time limit, > 0.
    Raises: TimeoutError: not in time. KubeError: it may not be watched.
    """
    namespace, name = manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"]
    uid = manifest["metadata"]["uid"]
    async with asyncio.timeout(seconds):
        while (live := await client.find(resource, namespace, name)) is not None and live["metadata"]["uid"] == uid:
            await _watch(client, resource, live, seconds, lambda event: event.get("type") == "DELETED")


async def _watch(
    client: KubeClient,
    resource: Resource,
    manifest: Mapping[str, Any],
    seconds: float,
    is_last: Callable[[Mapping[str, Any]], bool],
) -> bool:
    """Watch one object from where it was seen; tell whether the event that is wanted came before the watch ended."""
    metadata = manifest["metadata"]
    # Whatever ends the watch: the next look tells where it stands.
    with contextlib.suppress(Unreachable, WatchExpired):
        async with client.watch(
            resource,
            metadata.get("namespace", ""),
            resource_version=metadata["resourceVersion"],
            server_seconds=int(seconds) + 1,
            silence_seconds=seconds,
            field_selector=f"metadata.name={metadata['name']}",
        ) as events:
            async for event in events:
                if is_last(event):
                    return True
    return False
