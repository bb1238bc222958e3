"""
Discovery: which kinds this API server serves.

Aggregated discovery v2, two requests for everything, kept as a small table. A kind not in the table is looked up again
at most once per refresh interval, so that a bundle full of typing errors costs two requests, not two thousand.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from typing import Any

from fairlead_agent.errors import UnknownKind
from fairlead_agent.kube.resources import Resource
from fairlead_agent.kube.transport import Transport

_ACCEPT = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
REFRESH_SECONDS = 1.0
"""A fresh CRD is listed about a second after it is established; asking faster gets the same answer."""


class Discovery:
    """The kinds one API server serves."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._known: dict[tuple[str, str], Resource] = {}
        self._refreshed_at = float("-inf")
        self._refreshing = asyncio.Lock()

    async def resolve(self, api_version: str, kind: str) -> Resource:
        """
        Return where a kind is served.

        Args:
            api_version: `GROUP/VERSION`, or `VERSION` for the core group.
            kind: Kind as manifests spell it.
        Raises: UnknownKind: not served, also after looking again. KubeError: discovery itself failed.
        """
        if (api_version, kind) not in self._known:
            async with self._refreshing:
                if (api_version, kind) not in self._known and time.monotonic() - self._refreshed_at > REFRESH_SECONDS:
                    await self._refresh()
        try:
            return self._known[api_version, kind]
        except KeyError:
            raise UnknownKind(api_version, kind, self._alternatives(api_version, kind)) from None

    async def _refresh(self) -> None:
        answers = await asyncio.gather(
            *(self._transport.request("GET", path, what="discovery", accept=_ACCEPT) for path in ("/api", "/apis"))
        )
        found = (resource for _, answer in answers for resource in resources_of_discovery(answer))
        self._known = {(resource.api_version, resource.kind): resource for resource in found}
        self._refreshed_at = time.monotonic()

    def _alternatives(self, api_version: str, kind: str) -> list[str]:
        """Name the versions and groups that serve the kind, and the nearest spelling in the same version."""
        same_kind = sorted(f"{kind} in {version}" for version, known in self._known if known == kind)
        folded = kind.casefold()
        spelled = sorted(
            f"{known} in {version}"
            for version, known in self._known
            if version == api_version and known != kind and known.casefold() == folded
        )
        return (same_kind + spelled)[:3]


def resources_of_discovery(answer: Mapping[str, Any]) -> Iterator[Resource]:
    """Yield every listed resource that has a kind; a group whose server is away is stale but listed all the same."""
    for group in answer.get("items", []):
        name = group.get("metadata", {}).get("name", "")
        for version in group.get("versions", []):
            for resource in version.get("resources", []):
                served = resource.get("responseKind") or {}
                if served.get("kind"):
                    yield Resource(
                        group=name,
                        version=version["version"],
                        kind=served["kind"],
                        plural=resource["resource"],
                        namespaced=resource.get("scope") == "Namespaced",
                    )
