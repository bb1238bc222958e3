"""What may have been meant."""

import httpx
import pytest

from fairlead_cli.suggestions import suggest
from tests.unit.cli.scripted_relay import ENVIRONMENT, ORGANIZATION, ScriptedRelay, environment

APPS = f"GET {ORGANIZATION}/applications"


@pytest.fixture
def relay() -> ScriptedRelay:
    """A relay with shop/staging."""
    relay = ScriptedRelay()
    relay.answer(APPS, {"items": [{"name": "shop"}, {"name": "bakery"}]})
    relay.answer(f"GET {ORGANIZATION}/applications/shop/environments", {"items": [environment()]})
    return relay


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        (ENVIRONMENT.replace("staging", "stagin"), "did you mean 'staging'?"),
        (ENVIRONMENT.replace("shop", "shpo"), "did you mean 'shop'?"),
        (ENVIRONMENT.replace("shop", "zzz"), "applications are shop, bakery"),
        (ENVIRONMENT, ""),
        (f"{ENVIRONMENT}/deployments", ""),
        (f"{ORGANIZATION}/deployments/x", ""),
        ("/v1/nothing", ""),
    ],
)
def test_the_first_wrong_name_counts(path: str, sentence: str, relay: ScriptedRelay) -> None:
    """Of the path's names, from the left; none if all are there."""
    assert suggest(relay.client(), path) == sentence


def test_many_names_are_not_listed() -> None:
    """Only what is alike is worth a line."""
    relay = ScriptedRelay()
    relay.answer(APPS, {"items": [{"name": f"app{n}"} for n in range(6)]})
    assert suggest(relay.client(), f"{ORGANIZATION}/applications/zzz") == ""


@pytest.mark.parametrize("collection", ["clusters", "agents"])
def test_failures_are_silent(collection: str) -> None:
    """The refusal itself is what counts."""
    relay = ScriptedRelay()
    relay.answer(f"GET {ORGANIZATION}/{collection}", httpx.Response(500))
    assert suggest(relay.client(), f"{ORGANIZATION}/{collection}/x") == ""
