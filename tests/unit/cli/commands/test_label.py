"""`fairlead label`, and labels in what creates and lists."""

from collections.abc import Callable

import pytest
from click.testing import Result

from tests.unit.cli.scripted_relay import ENVIRONMENT, MOMENT, ORGANIZATION, ScriptedRelay, environment

Fairlead = Callable[..., Result]
LABELS = {"labels": {"tier": "gold", "region": "eu"}}
CLUSTER = {"name": "prod", "state": "connected", "created_at": MOMENT} | LABELS
ENROLMENT = {"token": "fle1_x", "expires_at": MOMENT, "agent_url": "wss://r:1"}


@pytest.mark.parametrize(
    ("arguments", "path", "answer"),
    [
        (("cluster", "prod"), f"{ORGANIZATION}/clusters/prod", CLUSTER),
        (("app", "shop"), f"{ORGANIZATION}/applications/shop", {"name": "shop"} | LABELS),
        (("env", "shop/staging"), ENVIRONMENT, environment(**LABELS)),
    ],
)
def test_labels_are_set_and_removed(
    arguments: tuple[str, str], path: str, answer: dict[str, object], fairlead: Fairlead, relay: ScriptedRelay
) -> None:
    """Those that are not named stay, whatever version the record has."""
    relay.answer(f"PATCH {path}", answer)
    result = fairlead("label", *arguments, "a=b=c", "example.com/empty=", "gone-")
    assert result.stdout.splitlines() == [f"Name:    {arguments[1]}", "Labels:  region=eu,tier=gold"]
    assert relay.bodies(f"PATCH {path}") == [{"labels": {"a": "b=c", "example.com/empty": "", "gone": None}}]
    assert relay.requests[0].headers["If-Match"] == "*"


@pytest.mark.parametrize("change", ["a", "=b", "-"])
def test_what_is_no_change_is_not_sent(change: str, fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """Nor is nothing."""
    assert fairlead("label", "app", "shop", "--", change).exit_code == 2
    assert fairlead("label", "app", "shop").exit_code == 2


def test_what_is_created_may_have_labels(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """And says nothing of them otherwise."""
    relay.answer(f"POST {ORGANIZATION}/clusters", {"cluster": CLUSTER, "enrolment": ENROLMENT})
    relay.answer(f"POST {ORGANIZATION}/applications", {"name": "shop"})
    relay.answer(f"POST {ORGANIZATION}/applications/shop/environments", environment())
    label = ("--label", "team=harbour")
    where = ("--type", "staging", "--cluster", "prod", "--namespace", "shop")
    for arguments in (
        ("cluster", "create", "prod"),
        ("app", "create", "shop"),
        ("env", "create", "shop/staging", *where),
    ):
        assert fairlead(*arguments, *label).exit_code == 0
        assert fairlead(*arguments).exit_code == 0
    for call in ("clusters", "applications", "applications/shop/environments"):
        first, second = relay.bodies(f"POST {ORGANIZATION}/{call}")
        assert first.pop("labels") == {"team": "harbour"}
        assert first == second


def test_lists_are_narrowed_and_show_labels_when_wide(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """The selector goes to the relay as it was typed."""
    relay.answer(f"GET {ORGANIZATION}/clusters", {"items": [CLUSTER]})
    relay.answer(f"GET {ORGANIZATION}/applications", {"items": [{"name": "shop"}]})
    relay.answer(f"GET {ORGANIZATION}/applications/shop/environments", {"items": [environment(**LABELS)]})
    assert "region=eu,tier=gold" in fairlead("cluster", "list", "-l", "tier=gold", "-o", "wide").stdout
    assert fairlead("app", "list", "--selector", "a in (b, c)").exit_code == 0
    assert fairlead("env", "list", "-l", "!x").exit_code == 0
    selectors = [request.url.params.get("selector") for request in relay.requests]
    assert selectors == ["tier=gold", "a in (b, c)", None, "!x"]
