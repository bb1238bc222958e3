"""The agent's own state as ConfigMaps and Secrets of its namespace, by compare-and-set on resourceVersion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairlead_agent.errors import NotFound
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.resources import CONFIG_MAPS, SECRETS, Resource
from fairlead_agent.ports import StateKind

_RESOURCES: Mapping[StateKind, Resource] = {StateKind.CONFIG_MAP: CONFIG_MAPS, StateKind.SECRET: SECRETS}


class StateObjects:
    """Implements ports.StatePort over the API server."""

    def __init__(self, client: KubeClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    async def read(self, kind: StateKind, name: str) -> dict[str, Any] | None:
        """Return the object; None if there is none."""
        return await self._client.find(_RESOURCES[kind], self._namespace, name)

    async def select(self, kind: StateKind, label_selector: str, *, names_only: bool = False) -> list[dict[str, Any]]:
        """Return all objects with these labels; where names are enough, without their data."""
        found: list[dict[str, Any]] = []
        token = ""
        while True:
            page = await self._client.page(
                _RESOURCES[kind],
                self._namespace,
                token=token,
                label_selector=label_selector,
                names_only=names_only,
            )
            found += page.items
            token = page.token
            if not token:
                return found

    async def create(self, kind: StateKind, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object. Raises: AlreadyExists: somebody was faster, or an earlier try of ours did it."""
        return await self._client.create(_RESOURCES[kind], self._complete(kind, manifest))

    async def update(self, kind: StateKind, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Replace an object. Raises: Conflict: metadata.resourceVersion is not current. NotFound: it is gone."""
        return await self._client.update(_RESOURCES[kind], self._complete(kind, manifest))

    async def delete(self, kind: StateKind, name: str, resource_version: str = "") -> None:
        """Delete an object; none is fine. Raises: Conflict: it is not at that resourceVersion, where one is given."""
        try:
            await self._client.delete(_RESOURCES[kind], self._namespace, name, resource_version=resource_version)
        except NotFound:
            return

    def _complete(self, kind: StateKind, manifest: Mapping[str, Any]) -> dict[str, Any]:
        metadata = {**manifest["metadata"], "namespace": self._namespace}
        return {**manifest, "apiVersion": "v1", "kind": kind.value, "metadata": metadata}
