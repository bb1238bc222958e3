"""`fairlead drift`: who changed what, what is not known, and the exit codes of --exit-code."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from tests.unit.cli.scripted_relay import (
    DEPLOYMENT_ID,
    ENVIRONMENT,
    MOMENT,
    ORGANIZATION,
    WEB,
    ScriptedRelay,
    problem,
)

Fairlead = Callable[..., Result]
CALL = f"GET {ENVIRONMENT}/drift"
FIELD = {"pointer": "/spec/replicas", "before": "1", "after": "3", "masked": False}


def drifted(**fields: object) -> dict[str, Any]:
    """Return an object as the API shows it: somebody scaled it."""
    return {
        "object": WEB,
        "drift": "changed",
        "status": "drifted",
        "since": MOMENT,
        "managers": ["kubectl"],
        "fields": [FIELD],
        "fields_left_out": 0,
        "corrections": 0,
        "next_attempt_at": None,
        "reason": "",
    } | fields


def drift(*objects: dict[str, Any], **fields: object) -> dict[str, Any]:
    """Return an environment's drift as the API shows it."""
    return {
        "application": "shop",
        "environment": "staging",
        "mode": "report",
        "watched": True,
        "reported_at": MOMENT,
        "deployment_id": DEPLOYMENT_ID,
        "bundle_sha256": "ab" * 32,
        "drifted": sum(one["status"] != "corrected" for one in objects),
        "total": len(objects),
        "objects": list(objects),
        "watches": 3,
        "unseen": [],
        "reason": "",
    } | fields


def test_each_object_says_who_what_and_since_when(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """Field by field as a plan does; and what became of it."""
    settings = {"api_version": "v1", "kind": "ConfigMap", "namespace": "shop", "name": "settings"}
    fought = drifted(object=settings, status="fought", corrections=3, fields=[], next_attempt_at="2126-01-01T00:00:00Z")
    corrected = drifted(
        object=settings | {"name": "gone"}, drift="missing", status="corrected", managers=[], fields=[], corrections=1
    )
    foreign = drifted(
        object=settings | {"name": "theirs"},
        drift="unowned",
        fields=[],
        managers=["helm", "x"],
        reason="its label is gone",
    )
    relay.answer(CALL, drift(drifted(fields_left_out=2), fought, corrected, foreign, total=9))
    result = fairlead("drift", "shop/staging")
    assert result.exit_code == 0
    assert re.sub(r"\b\d+d\d+h\b", "AGE", result.stdout).splitlines() == [
        "~ Deployment shop/web changed by kubectl AGE ago",
        "    spec.replicas: 1 → 3",
        "    and 2 more",
        "~ ConfigMap shop/settings changed by kubectl AGE ago, fought: corrected 3 times, again in AGE",
        "- ConfigMap shop/gone missing AGE ago, corrected 1 time",
        "! ConfigMap shop/theirs no longer this environment's by helm, x AGE ago: its label is gone",
    ]
    assert result.stderr == "and 5 more objects\n"


def test_programs_get_all_of_it(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """As the API has it, or the names alone."""
    relay.answer(CALL, drift(drifted()))
    shown = json.loads(fairlead("drift", "shop/staging", "-o", "json").stdout)
    assert (shown["watches"], shown["objects"][0]["fields"]) == (3, [FIELD])
    assert fairlead("drift", "shop/staging", "-o", "name").stdout == "Deployment shop/web\n"


UNSEEN = {"group": "apps", "resource": "deployments", "namespace": "shop", "reason": "needs a rule"}


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (drift(), 0, f"shop/staging is as deployment {DEPLOYMENT_ID} left it; its agent said so"),
        (drift(unseen=[UNSEEN]), 0, "not watched: deployments.apps in shop: needs a rule"),
        (drift(drifted()), 1, ""),
        (drift(drifted(status="corrected")), 0, ""),
        (drift(total=1, drifted=1), 1, "and 1 more objects"),
        (drift(mode=None, watched=False), 8, f"has not said yet whether it is as deployment {DEPLOYMENT_ID} left it"),
        (drift(mode=None, watched=False, deployment_id=None), 8, "nothing is deployed"),
        (drift(mode="off", watched=False), 8, "its operator turned that off"),
        (drift(watched=False, reason="its last deployment failed"), 8, "shop/staging: its last deployment failed"),
    ],
    ids=["none", "some", "all", "corrected", "unlisted", "silent", "empty", "off", "unwatched"],
)
def test_exit_codes_if_asked_for(
    fairlead: Fairlead, relay: ScriptedRelay, answer: dict[str, Any], code: int, said: str
) -> None:
    """1 is drift, 8 that nobody knows; without --exit-code it is 0 whatever there is."""
    relay.answer(CALL, answer)
    result = fairlead("drift", "shop/staging", "--exit-code")
    assert result.exit_code == code
    assert said in result.stderr
    assert fairlead("drift", "shop/staging").exit_code == 0


def test_errors_are_2_or_more_if_1_means_drift(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """And 1 as everywhere if it does not."""
    relay.answer(f"GET {ORGANIZATION}/applications", {"items": []})
    relay.answer(f"GET {ORGANIZATION}/applications/shop/environments", {"items": []})
    relay.answer(CALL, problem(404, "not_found", "no environment"))
    assert fairlead("drift", "shop/staging", "--exit-code").exit_code == 2
    assert fairlead("drift", "shop/staging").exit_code == 1
