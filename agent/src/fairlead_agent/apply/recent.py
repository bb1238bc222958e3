"""
Recent answers: what the API server said of a namespace a moment ago, for small deployments that follow each other.

Only what is harmless when it is a few seconds old is kept. A right that was taken since is found by the wait, which
needs it; one that was given since is asked for by itself. A quota that was made since is the API server's to enforce,
as one made right after preflight is; where there is a quota it is read each time, since all that is written changes
what is left of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.resources import RESOURCE_QUOTAS

RECENT_SECONDS: Final = 10.0
"""Deployments of a burst meet in a namespace within a second or two; who changes a rule and deploys takes longer."""
_Answer = list[dict[str, Any]]


class RecentAnswers:
    """
    Asks about namespaces, and remembers for a moment.

    Args:
        client: The API server.
        monotonic: Seconds.
    """

    def __init__(self, client: KubeClient, monotonic: Callable[[], float]) -> None:
        self._client = client
        self._monotonic = monotonic
        self._answers: dict[tuple[str, str], tuple[float, _Answer]] = {}
        """(what, namespace) → until when it holds, and the answer."""

    async def rules(self, namespace: str) -> list[dict[str, Any]]:
        """Return what this identity may do in a namespace, as `KubeClient.rules`, whose errors it raises."""
        return await self._ask("rules", namespace, self._client.rules, lambda _: True)

    async def quotas(self, namespace: str) -> list[dict[str, Any]]:
        """Return a namespace's ResourceQuotas; that there are none is remembered. Raises: MissingRight: no list."""

        async def read(namespace: str) -> _Answer:
            return (await self._client.page(RESOURCE_QUOTAS, namespace)).items

        return await self._ask("quotas", namespace, read, lambda found: not found)

    async def _ask(
        self,
        what: str,
        namespace: str,
        ask: Callable[[str], Awaitable[_Answer]],
        is_kept: Callable[[_Answer], bool],
    ) -> _Answer:
        began = self._monotonic()
        self._answers = {asked: kept for asked, kept in self._answers.items() if began < kept[0]}
        if (kept := self._answers.get((what, namespace))) is not None:
            return kept[1]
        answer = await ask(namespace)
        if is_kept(answer):
            self._answers[what, namespace] = began + RECENT_SECONDS, answer
        return answer
