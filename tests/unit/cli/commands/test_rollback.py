"""`fairlead rollback`."""

from collections.abc import Callable

from click.testing import Result

from tests.unit.cli.scripted_relay import (
    DEPLOYMENT_ID,
    ENVIRONMENT,
    ORGANIZATION,
    STORY,
    ScriptedRelay,
    deployment,
    problem,
    stream,
)

Fairlead = Callable[..., Result]
CREATE = f"POST {ENVIRONMENT}/rollback"


def test_without_a_target_the_relay_chooses(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """Sent with a new id, so that it may be sent twice."""
    relay.answer(CREATE, deployment(rollback=True))
    assert fairlead("rollback", "shop/staging", "-o", "name").stdout == f"{DEPLOYMENT_ID}\n"
    [body] = relay.bodies(CREATE)
    assert set(body) == {"deployment_id"}
    assert body["deployment_id"] != DEPLOYMENT_ID


def test_target_limit_and_watching(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """As for deploy."""
    relay.answer(CREATE, deployment(rollback=True))
    relay.answer(f"GET {ORGANIZATION}/deployments/{DEPLOYMENT_ID}/events", stream(STORY))
    relay.answer(f"GET {ORGANIZATION}/deployments/{DEPLOYMENT_ID}", deployment("succeeded", rollback=True))
    result = fairlead("rollback", "shop/staging", "--to", DEPLOYMENT_ID, "--timeout", "60", "--watch")
    assert result.exit_code == 0
    body = relay.bodies(CREATE)[0]
    assert (body["to"], body["wait_seconds"], body["deadline_seconds"]) == (DEPLOYMENT_ID, 60, 60)


def test_nothing_to_go_back_to(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """In the relay's words."""
    relay.answer(CREATE, problem(409, "conflict", "nothing to go back to"))
    result = fairlead("rollback", "shop/staging")
    assert (result.exit_code, result.stderr) == (1, "error: nothing to go back to (conflict)\n")
