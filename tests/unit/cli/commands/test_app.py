"""`fairlead app`."""

from collections.abc import Callable

from click.testing import Result

from tests.unit.cli.scripted_relay import MOMENT, ORGANIZATION, ScriptedRelay


def test_create_and_list(fairlead: Callable[..., Result], relay: ScriptedRelay) -> None:
    """Pages are followed."""
    path = f"{ORGANIZATION}/applications"
    relay.answer(f"POST {path}", {"name": "shop", "created_at": MOMENT})
    relay.answer(f"GET {path}", {"items": [{"name": "shop"}], "next_cursor": "shop"}, {"items": [{"name": "till"}]})
    assert fairlead("app", "create", "shop").stdout == "Name:  shop\n"
    assert relay.bodies(f"POST {path}") == [{"name": "shop"}]
    assert fairlead("app", "list").stdout == "NAME\nshop\ntill\n"
