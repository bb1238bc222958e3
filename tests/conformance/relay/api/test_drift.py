"""Drift as a relay shows it that shares its store with a newer one."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

from fairlead_relay.api.drift import DriftSummary, describe_drift, summarize_drift
from fairlead_relay.store import Store
from fairlead_relay.store.drifts import record_drift
from fairlead_shared.objects import ObjectRef
from tests.conformance.domain import BUNDLES
from tests.conformance.relay.store.test_drifts import DRIFT, PLACE, deployed

SETTINGS = ObjectRef(api_version="v1", kind="ConfigMap", namespace="shop", name="settings")
OBJECT = {
    "object": asdict(SETTINGS),
    "drift": "renamed",
    "status": "mourned",
    "since": 1_795_000_000.0,
    "managers": ["kubectl"],
    "fields": [],
    "fields_left_out": 0,
    "corrections": 0,
    "next_attempt_at": None,
    "reason": "",
}


async def test_words_of_a_newer_relay_are_handed_on(store: Store) -> None:
    """As they are: no list of environments may fail because one of them is told of in another way."""
    agent = await deployed(store)
    report = json.dumps({"objects": [OBJECT], "total": 1, "watches": 1, "unseen": [], "reason": ""})
    drift = replace(DRIFT, objects=1, mode="mourn", report=report)
    await store.write(lambda c: record_drift(c, agent.session_id, PLACE, drift))
    summary = await store.read(lambda c: summarize_drift(c, PLACE, BUNDLES[0]))
    assert summary == DriftSummary(objects=1, mode="mourn", since="2026-11-18T11:06:40.000Z")
    shown = await store.read(lambda c: describe_drift(c, PLACE))
    assert (shown.mode, shown.watched, shown.drifted) == ("mourn", True, 1)
    assert [(one.drift, one.status) for one in shown.objects] == [("renamed", "mourned")]
