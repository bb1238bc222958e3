"""`fairlead diff`: exit codes of diff(1), what is on stdout, and what is compared when the agent cannot be asked."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from click.testing import Result

from fairlead_cli.manifest_files import Text
from fairlead_cli.manifests import read_manifests
from fairlead_shared.bundle import make_bundle
from tests.unit.cli.scripted_relay import ENVIRONMENT, ORGANIZATION, ScriptedRelay, environment, problem
from tests.unit.cli.test_changes import CONFIG
from tests.unit.cli.test_comparing import BUNDLE, CURRENT
from tests.unit.cli.test_planning import job, told

Fairlead = Callable[..., Result]
CHANGED = CONFIG.replace("one", "two")
ARGUMENTS = ("diff", "-f", "-", "--env", "shop/staging")


REPLICAS = {"pointer": "/data/a", "before": '"one"', "after": '"two"'}
OBJECT = {"api_version": "v1", "kind": "ConfigMap", "namespace": "shop", "name": "c"}
FINDING = {"type": "finding", "severity": "error", "code": "forbidden", "object": OBJECT, "message": "no"}


@pytest.fixture(autouse=True)
def running(relay: ScriptedRelay) -> None:
    """The bundle of CONFIG runs, and the relay takes any."""
    relay.answer(f"GET {ENVIRONMENT}", environment(current=CURRENT, latest=CURRENT))
    relay.answer(f"GET {ORGANIZATION}/bundles/{BUNDLE.sha256}", httpx.Response(200, content=BUNDLE.content))
    relay.answer(f"HEAD {ORGANIZATION}/bundles/{BUNDLE.sha256}", httpx.Response(200))
    changed = make_bundle(one.manifest for one in read_manifests([Text("x", CHANGED)], "shop"))
    relay.answer(f"HEAD {ORGANIZATION}/bundles/{changed.sha256}", httpx.Response(200))


def answer(relay: ScriptedRelay, *events: dict[str, Any], **ended: object) -> None:
    """Write down the agent's answer to a plan."""
    relay.answer(f"POST {ENVIRONMENT}/plans", job())
    relay.answer(f"GET {ORGANIZATION}/jobs/plan1/events", told(*events))
    relay.answer(f"GET {ORGANIZATION}/jobs/plan1", job("refused", **ended))


def test_nothing_changes_is_0(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """And nothing on stdout."""
    unchanged = {"type": "planned", "object": OBJECT, "action": "unchanged"}
    answer(relay, unchanged, {"type": "result", "outcome": "succeeded"})
    result = fairlead(*ARGUMENTS, stdin=CONFIG)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert json.loads(fairlead(*ARGUMENTS, "-o", "json", stdin=CONFIG).stdout) == {"items": []}


def test_something_changes_is_1(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """Field by field, or as records; consents are part of the question."""
    changed = {"type": "planned", "object": OBJECT, "action": "changed", "fields": [REPLICAS]}
    answer(relay, changed, {"type": "result", "outcome": "succeeded"})
    result = fairlead(*ARGUMENTS, "--recreate", "--timeout", "5s", stdin=CHANGED)
    assert result.exit_code == 1
    assert result.stdout == '~ ConfigMap shop/c (<stdin>:1) changed\n    data.a: "one" → "two"\n'
    asked = relay.bodies(f"POST {ENVIRONMENT}/plans")[0]
    assert (asked["consents"], asked["deadline_seconds"]) == (["recreate"], 10)
    records = fairlead(*ARGUMENTS, "-o", "json", stdin=CHANGED)
    assert records.exit_code == 1
    assert json.loads(records.stdout)["items"][0]["fields"] == [REPLICAS | {"masked": False}]
    assert fairlead(*ARGUMENTS, "-o", "name", stdin=CHANGED).stdout == "ConfigMap shop/c\n"


def test_a_deployment_that_would_be_refused_is_5(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """Whatever else would change."""
    answer(relay, FINDING, {"type": "result", "outcome": "failed", "code": "forbidden", "cause": "ConfigMap c: no"})
    result = fairlead(*ARGUMENTS, stdin=CHANGED)
    assert result.exit_code == 5
    assert "error: it would be refused: ConfigMap c: no" in result.stderr


def test_without_a_plan_the_bundles_are_compared(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """Which is said; the exit codes are the same."""
    answer(relay, code="unsupported", cause="knows no job of kind 'plan'")
    same = fairlead(*ARGUMENTS, stdin=CONFIG)
    assert (same.exit_code, same.stdout) == (0, "")
    assert "makes no plan: knows no job of kind 'plan'. Compared with what was deployed last instead" in same.stderr
    result = fairlead(*ARGUMENTS, stdin=CHANGED)
    assert result.exit_code == 1
    assert "-  a: one\n+  a: two\n" in result.stdout
    records = fairlead(*ARGUMENTS, "-o", "json", stdin=CHANGED)
    assert records.exit_code == 1
    assert [one["action"] for one in json.loads(records.stdout)["items"]] == ["changed"]


def test_errors_are_2_or_more(fairlead: Fairlead, relay: ScriptedRelay, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that are 1 elsewhere, and those that nobody foresaw."""
    relay.answer(f"GET {ORGANIZATION}/applications", {"items": []})
    relay.answer(f"GET {ORGANIZATION}/applications/shop/environments", {"items": []})
    assert fairlead(*ARGUMENTS, stdin="a: [").exit_code == 2
    assert fairlead("diff", "-f", "-").exit_code == 2
    relay.change(f"GET {ENVIRONMENT}", problem(404, "not_found", "no environment"), problem(401, "unauthorized", "who"))
    assert fairlead(*ARGUMENTS, stdin=CONFIG).exit_code == 2
    assert fairlead(*ARGUMENTS, stdin=CONFIG).exit_code == 4

    def broken(*_arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("fairlead_cli.client.Client.environment", broken)
    assert fairlead(*ARGUMENTS, stdin=CONFIG).exit_code == 2
