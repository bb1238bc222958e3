"""`fairlead env`."""

import json
from collections.abc import Callable

from click.testing import Result

from tests.unit.cli.scripted_relay import ENVIRONMENT, ORGANIZATION, ScriptedRelay, deployment, environment

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
        "NAME           TYPE      CLUSTER   NAMESPACE   LATEST",
        "shop/staging   staging   prod      shop        running",
    ]


def test_show(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """Also for programs, whole."""
    relay.answer(f"GET {ENVIRONMENT}", environment(current=deployment("succeeded")))
    assert "Namespace:" in fairlead("env", "show", "shop/staging").stdout
    shown = json.loads(fairlead("env", "show", "shop/staging", "-o", "json").stdout)
    assert shown["current"]["state"] == "succeeded"
