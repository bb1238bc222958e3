"""`fairlead env`."""

import json
import re
from collections.abc import Callable

import httpx
import pytest
from click.testing import Result

from tests.unit.cli.scripted_relay import (
    ENVIRONMENT,
    ORGANIZATION,
    STORY,
    ScriptedRelay,
    deployment,
    environment,
    stream,
)

Fairlead = Callable[..., Result]
APPLICATIONS = f"{ORGANIZATION}/applications"


def test_create_names_type_cluster_and_namespace(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """All three are needed."""
    relay.answer(f"POST {APPLICATIONS}/shop/environments", environment())
    result = fairlead(
        "env", "create", "shop/staging", "--type", "staging", "--cluster", "prod", "--namespace", "shop", "-o", "name"
    )
    assert result.stdout == "shop/staging\n"
    assert fairlead("env", "create", "shop/staging", "--type", "staging").exit_code == 2


def test_list_of_one_application_or_of_all(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """Each named as other commands take it."""
    relay.answer(f"GET {APPLICATIONS}", {"items": [{"name": "shop"}, {"name": "till"}]})
    relay.answer(f"GET {APPLICATIONS}/shop/environments", {"items": [environment(latest=deployment("running"))]})
    relay.answer(f"GET {APPLICATIONS}/till/environments", {"items": [environment(name="live")]})
    assert fairlead("env", "list", "-o", "name").stdout == "shop/staging\ntill/live\n"
    assert fairlead("env", "list", "shop").stdout.splitlines() == [
        "NAME           TYPE      CLUSTER   NAMESPACE   LATEST    DRIFT",
        "shop/staging   staging   prod      shop        running   -",
    ]


def test_show(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """Also for programs, whole."""
    relay.answer(f"GET {ENVIRONMENT}", environment(current=deployment("succeeded")))
    assert "Namespace:" in fairlead("env", "show", "shop/staging").stdout
    for objects, text in ((0, "none"), (1, "1 object"), (2, "2 objects")):
        relay.change(f"GET {ENVIRONMENT}", environment(drift={"objects": objects, "mode": "report", "since": None}))
        assert re.search(rf"^Drift: +{text}$", fairlead("env", "show", "shop/staging").stdout, re.MULTILINE)
    relay.change(f"GET {ENVIRONMENT}", environment(current=deployment("succeeded")))
    shown = json.loads(fairlead("env", "show", "shop/staging", "-o", "json").stdout)
    assert shown["current"]["state"] == "succeeded"


PLAN = {
    "confirmation": "shop/staging",
    "cluster": "prod",
    "namespaces": ["shop"],
    "objects": ["ConfigMap shop/web"],
    "hooks": ["Job shop/backup: before deletion"],
    "unfinished_deployments": ["01k9x0q6v3t1m8c5n7b2d4f6gh"],
    "kept": "Namespaces stay.",
}
JOB = {"id": "job1", "kind": "destroy", "state": "queued", "cluster": "prod"}


@pytest.fixture
def doomed(relay: ScriptedRelay) -> ScriptedRelay:
    """A relay with an environment that can be deleted."""
    relay.answer(f"GET {ENVIRONMENT}/deletion", PLAN)
    relay.answer(f"DELETE {ENVIRONMENT}", httpx.Response(202, json=JOB))
    return relay


def test_deletion_shows_the_plan_and_wants_the_name_typed(fairlead: Fairlead, doomed: ScriptedRelay) -> None:
    """Anything else deletes nothing."""
    result = fairlead("env", "delete", "shop/staging", stdin="shop/staging\n")
    assert (result.exit_code, "job1" in result.stdout) == (0, True)
    runs = "  runs: Job shop/backup: before deletion"
    for said in (
        "deleted: ConfigMap shop/web",
        runs,
        "ended: deployment 01k9x0q6v3t1m8c5n7b2d4f6gh",
        "Namespaces stay.",
    ):
        assert said in result.stderr
    assert doomed.bodies(f"DELETE {ENVIRONMENT}") == [{"confirmation": "shop/staging"}]
    refused = fairlead("env", "delete", "shop/staging", stdin="yes\n")
    assert (refused.exit_code, "nothing was deleted" in refused.stderr) == (1, True)
    assert fairlead("env", "delete", "shop/staging", "--yes", "shop/production").exit_code == 1
    assert len(doomed.bodies(f"DELETE {ENVIRONMENT}")) == 1


def test_hooks_are_left_out_on_request(fairlead: Fairlead, doomed: ScriptedRelay) -> None:
    """In the body, where a relay that does not know them refuses."""
    assert fairlead("env", "delete", "shop/staging", "--yes", "shop/staging", "--no-hooks").exit_code == 0
    assert doomed.bodies(f"DELETE {ENVIRONMENT}") == [{"confirmation": "shop/staging", "hooks": False}]
    asked = fairlead("env", "delete", "shop/staging", "--no-hooks", stdin="shop/staging\n")
    assert "  does not run: Job shop/backup: before deletion" in asked.stderr


def test_scripts_name_it_again_and_watch(fairlead: Fairlead, doomed: ScriptedRelay) -> None:
    """Without a question; the exit code says how it went."""
    doomed.answer(f"GET {ORGANIZATION}/jobs/job1/events", stream(STORY))
    doomed.answer(f"GET {ORGANIZATION}/jobs/job1", JOB | {"state": "succeeded", "counts": {"pruned": 1}})
    result = fairlead("env", "delete", "shop/staging", "--yes", "shop/staging", "--watch")
    assert result.exit_code == 0
    assert "deletion of shop/staging succeeded: 1 pruned" in result.stderr


def test_orphans_stay_in_the_cluster(fairlead: Fairlead, doomed: ScriptedRelay) -> None:
    """It is forgotten at once."""
    doomed.change(f"DELETE {ENVIRONMENT}", httpx.Response(204))
    result = fairlead("env", "delete", "shop/staging", "--orphan", stdin="shop/staging\n")
    assert result.exit_code == 0
    assert "stays: ConfigMap shop/web" in result.stderr
    assert "what it made is still in cluster prod" in result.stderr
    assert doomed.requests[-1].url.params["orphan"] == "true"
