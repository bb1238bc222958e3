"""Answers that are kept for a moment: which, for how long, and which never."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from fairlead_agent.apply.recent import RECENT_SECONDS, RecentAnswers
from fairlead_agent.errors import MissingRight
from fairlead_agent.kube.client import KubeClient, Page
from fairlead_agent.kube.resources import RESOURCE_QUOTAS, Resource


@dataclass
class Server:
    """Answers, and counts who asked."""

    now: float = 0.0
    rights: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    limits: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    slow: dict[str, asyncio.Barrier] = field(default_factory=dict)
    """Namespaces whose rules are answered once a test passed these twice."""

    async def rules(self, namespace: str) -> list[dict[str, Any]]:
        """Return the rules of a namespace that is known."""
        self.asked.append(f"rules {namespace}")
        if namespace not in self.rights:
            raise MissingRight("create", "authorization.k8s.io", "selfsubjectrulesreviews", "")
        if namespace in self.slow:
            barrier = self.slow.pop(namespace)
            await barrier.wait()
            await barrier.wait()
        return self.rights[namespace]

    async def page(self, resource: Resource, namespace: str) -> Page:
        """Return the quotas of a namespace."""
        assert resource == RESOURCE_QUOTAS
        self.asked.append(f"quotas {namespace}")
        return Page(self.limits.get(namespace, []), "1", "")

    def recent(self) -> RecentAnswers:
        """Return answers of this server."""
        return RecentAnswers(cast("KubeClient", self), lambda: self.now)


async def test_rules_are_asked_for_once_in_a_moment() -> None:
    """Each namespace has its own; after the moment what was granted since is seen."""
    server = Server(rights={"shop": [{"verbs": ["get"]}], "bank": []})
    recent = server.recent()
    assert [await recent.rules("shop") for _ in range(3)] == [[{"verbs": ["get"]}]] * 3
    assert await recent.rules("bank") == []
    assert server.asked == ["rules shop", "rules bank"]
    server.rights["shop"] = [{"verbs": ["list"]}]
    server.now = RECENT_SECONDS - 0.1
    assert await recent.rules("shop") == [{"verbs": ["get"]}]
    server.now = RECENT_SECONDS
    assert await recent.rules("shop") == [{"verbs": ["list"]}]


async def test_an_answer_is_not_kept_longer_because_it_was_used() -> None:
    """The moment begins when it was asked for, however often it is looked at."""
    server = Server(rights={"shop": [], "bank": []})
    recent = server.recent()
    for now in range(int(RECENT_SECONDS) * 3):
        server.now = float(now)
        await recent.rules("shop")
        if now % 2:
            await recent.rules("bank")
    assert server.asked.count("rules shop") == 3
    assert len(recent._answers) == 2


async def test_an_answer_that_took_long_is_kept_no_longer() -> None:
    """Its moment began with the question, though others that were asked later were answered before it."""
    barrier = asyncio.Barrier(2)
    server = Server(rights={"shop": [], "bank": []}, slow={"shop": barrier})
    recent = server.recent()
    slow = asyncio.create_task(recent.rules("shop"))
    await barrier.wait()
    server.now = RECENT_SECONDS - 1
    await recent.rules("bank")
    await barrier.wait()
    await slow
    server.now = RECENT_SECONDS
    await recent.rules("shop")
    await recent.rules("bank")
    assert server.asked == ["rules shop", "rules bank", "rules shop"]


async def test_only_that_there_is_no_quota_is_kept() -> None:
    """What is left of one changes with each write."""
    server = Server(limits={"tight": [{"spec": {}}]})
    recent = server.recent()
    assert [await recent.quotas("shop") for _ in range(2)] == [[], []]
    assert [len(await recent.quotas("tight")) for _ in range(2)] == [1, 1]
    assert server.asked == ["quotas shop", "quotas tight", "quotas tight"]


async def test_a_refusal_is_not_kept() -> None:
    """The right may be given at any time."""
    server = Server()
    recent = server.recent()
    for _ in range(2):
        with pytest.raises(MissingRight):
            await recent.rules("shop")
    assert len(server.asked) == 2
