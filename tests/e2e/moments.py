"""
Moments of a deployment, told by the agent's own journal: to kill something then, and to hold that nothing came of it.

A test waits until so many events are on disk and kills at once.
"""

from __future__ import annotations

import time
from typing import Any

from fairlead_shared.jobs import JobState
from tests.e2e.installation import Installation
from tests.polling import PATIENCE_SECONDS

OBJECTS = 24
EVENTS = ["accepted", "verify", "fetching", "fetched", "preflight", "planned", "applying", "half", "applied", "result"]
"""What the journal holds when each moment comes."""
MOMENTS = dict(zip(EVENTS, (0, 1, 3, 4, 5, 6, 7, 7 + OBJECTS // 2, 7 + OBJECTS, 9 + OBJECTS), strict=True))


def manifests(moment: str) -> list[dict[str, Any]]:
    """Return ConfigMaps that no other moment has."""
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"{moment}-{number:02d}"},
            "data": {"moment": moment},
        }
        for number in range(OBJECTS)
    ]


def until_journal_has(place: Installation, lines: int, deployment_id: str) -> None:
    """
    Watch the journal without a pause: a deployment takes a fraction of a second.

    A busy machine may let the moment pass unseen. What follows must hold then, too.
    """
    begun = asked = time.monotonic()
    while time.monotonic() < begun + PATIENCE_SECONDS:
        journals = list((place.agent.spool / "events").glob("*.events"))
        if any(path.read_bytes().count(b"\n") > lines for path in journals):
            return
        if time.monotonic() > asked + 1.0:
            if place.deployment(deployment_id)["finished_at"]:
                return
            asked = time.monotonic()
    raise TimeoutError(f"no journal had {lines} events within {PATIENCE_SECONDS} s\n{place.agent.log[-2000:]}")


def hold_done_once(place: Installation, deployment_id: str, moment: str) -> None:
    """The deployment succeeded; its story is whole; each object was created once and is as it was created."""
    shown = place.until_final(deployment_id)
    assert shown["state"] == JobState.SUCCEEDED, f"{shown}\n{place.agent.log[-4000:]}"
    assert shown["counts"]["created"] == OBJECTS
    keys = place.story(deployment_id)
    assert len(keys) == len(set(keys))
    created = {key for key in keys if key.endswith("/created")}
    assert created == {f"object/ConfigMap {place.namespace}/{moment}-{number:02d}/created" for number in range(OBJECTS)}
    assert [key for key in keys if key.startswith("step/") and key.endswith("/finished")] == [
        f"step/{step}/finished" for step in ("verify", "fetch", "preflight", "apply", "wait")
    ] + (["step/prune/finished"] if "step/prune/finished" in keys else [])
    assert keys[-1] == "result"
    assert {name for name in place.names("configmap") if name.startswith(moment)} == {
        f"{moment}-{number:02d}" for number in range(OBJECTS)
    }
    place.until_no_checkpoint()
    assert not list((place.agent.spool / "events").glob("*.events"))
