"""`fairlead diff`: exit codes of diff(1), and what is on stdout."""

import json
from collections.abc import Callable

import httpx
import pytest
from click.testing import Result

from tests.unit.cli.scripted_relay import ENVIRONMENT, ORGANIZATION, ScriptedRelay, environment, problem
from tests.unit.cli.test_changes import CONFIG
from tests.unit.cli.test_comparing import BUNDLE, CURRENT

Fairlead = Callable[..., Result]
ARGUMENTS = ("diff", "-f", "-", "--env", "shop/staging")


@pytest.fixture(autouse=True)
def running(relay: ScriptedRelay) -> None:
    """The bundle of CONFIG runs."""
    relay.answer(f"GET {ENVIRONMENT}", environment(current=CURRENT, latest=CURRENT))
    relay.answer(f"GET {ORGANIZATION}/bundles/{BUNDLE.sha256}", httpx.Response(200, content=BUNDLE.content))


def test_nothing_changes_is_0(fairlead: Fairlead) -> None:
    """And nothing on stdout."""
    result = fairlead(*ARGUMENTS, stdin=CONFIG)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert json.loads(fairlead(*ARGUMENTS, "-o", "json", stdin=CONFIG).stdout) == {"items": []}


def test_something_changes_is_1(fairlead: Fairlead) -> None:
    """With a diff, or as records."""
    changed = CONFIG.replace("one", "two")
    result = fairlead(*ARGUMENTS, stdin=changed)
    assert result.exit_code == 1
    assert "-  a: one\n+  a: two\n" in result.stdout
    records = fairlead(*ARGUMENTS, "-o", "json", stdin=changed)
    assert records.exit_code == 1
    assert [one["action"] for one in json.loads(records.stdout)["items"]] == ["changed"]
    assert fairlead(*ARGUMENTS, "-o", "name", stdin=changed).stdout == "ConfigMap shop/c\n"


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
