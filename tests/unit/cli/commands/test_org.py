"""`fairlead org`."""

from collections.abc import Callable

from click.testing import Result

from tests.unit.cli.scripted_relay import MOMENT, ORGANIZATION, ScriptedRelay

Fairlead = Callable[..., Result]


def test_list_and_show(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """Without a name it is one's own."""
    acme = {"name": "acme", "created_at": MOMENT}
    relay.answer("GET /v1/organizations", {"items": [acme]})
    relay.answer(f"GET {ORGANIZATION}", acme)
    relay.answer("GET /v1/organizations/other", acme | {"name": "other"})
    assert fairlead("org", "list", "-o", "name").stdout == "acme\n"
    assert fairlead("org", "show").stdout.splitlines()[0] == "Name:  acme"
    assert fairlead("org", "show", "other", "-o", "name").stdout == "other\n"
