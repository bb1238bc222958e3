"""
Discovery: which kinds this API server serves; aggregated, two requests for everything, kept as a small table.

A kind not in the table is looked up again; lookups that wait at the same time share one answer, so that a bundle full
of typing errors costs a few requests, not thousands.
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
_LISTED_SECONDS = 1.0
"""A fresh CRD is listed up to a second after it is established: a custom kind is asked for once more after that."""


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
        wanted = (api_version, kind)
        if wanted not in self._known:
            await self._look_again(wanted)
        if wanted not in self._known and "." in api_version:
            await asyncio.sleep(_LISTED_SECONDS)
            await self._look_again(wanted)
        try:
            return self._known[api_version, kind]
        except KeyError:
            raise UnknownKind(api_version, kind, self._alternatives(api_version, kind)) from None

    async def kinds(self) -> list[Resource]:
        """Return all that is served now, for each group its preferred version first."""
        async with self._refreshing:
            await self._refresh()
        return list(self._known.values())

    async def _look_again(self, wanted: tuple[str, str]) -> None:
        """Ask the server, unless somebody who asked later than we began to wait did so."""
        asked_at = time.monotonic()
        async with self._refreshing:
            if wanted not in self._known and self._refreshed_at < asked_at:
                await self._refresh()

    async def _refresh(self) -> None:
        began = time.monotonic()
        answers = await asyncio.gather(
            *(self._transport.request("GET", path, what="discovery", accept=_ACCEPT) for path in ("/api", "/apis"))
        )
        found = (resource for answer in answers for resource in resources_of_discovery(answer.content))
        self._known = {(resource.api_version, resource.kind): resource for resource in found}
        self._refreshed_at = began

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
