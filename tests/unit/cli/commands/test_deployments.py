"""`fairlead deployments`."""

from collections.abc import Callable

from click.testing import Result

from tests.unit.cli.scripted_relay import (
    DEPLOYMENT_ID,
    ENVIRONMENT,
    FAILURE,
    ORGANIZATION,
    STORY,
    ScriptedRelay,
    deployment,
    problem,
    stream,
)

Fairlead = Callable[..., Result]
SHOWN = f"{ORGANIZATION}/deployments/{DEPLOYMENT_ID}"


def test_list_has_state_reason_and_changes(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """The newest, as many as asked for."""
    waiting = deployment("queued", reason="waits for agent: offline since T")
    done = deployment("succeeded", counts={"created": 2})
    relay.answer(f"GET {ENVIRONMENT}/deployments", {"items": [waiting, done]})
    lines = fairlead("deployments", "list", "shop/staging", "--limit", "2").stdout.splitlines()
    assert "queued      waits for agent: offline since T" in lines[1]
    assert "2 created" in lines[2]
    assert relay.requests[0].url.params["limit"] == "2"


def test_show_once_or_watch_to_the_end(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """Shown it is 0; watched, the exit code says how it ended."""
    relay.answer(f"GET {SHOWN}", deployment("failed", cause="no image"))
    relay.answer(f"GET {SHOWN}/events", stream(STORY))
    shown = fairlead("deployments", "show", DEPLOYMENT_ID)
    assert shown.exit_code == 0
    assert "Reason:       no image" in shown.stdout
    assert fairlead("deployments", "show", DEPLOYMENT_ID, "--watch").exit_code == 5


def test_cancel(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """What has ended cannot be cancelled, and says so."""
    relay.answer(f"POST {SHOWN}/cancel", deployment("cancelling"), problem(409, "conflict", "it has already ended"))
    assert "cancelling" in fairlead("deployments", "cancel", DEPLOYMENT_ID).stdout
    result = fairlead("deployments", "cancel", DEPLOYMENT_ID)
    assert (result.exit_code, result.stderr) == (1, "error: it has already ended (conflict)\n")


def test_retry_shows_the_new_try_alone(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """Watched from after the events of the one that failed; a refusal says why."""
    relay.answer(f"GET {SHOWN}/events", stream(FAILURE), stream([*FAILURE, *(later(one) for one in STORY)]))
    relay.answer(f"POST {SHOWN}/retry", deployment("queued"), problem(409, "conflict", "a newer one was deployed"))
    relay.answer(f"GET {SHOWN}", deployment("succeeded"))
    watched = fairlead("deployments", "retry", DEPLOYMENT_ID, "--watch")
    assert watched.exit_code == 0
    assert "nope:1" not in watched.output
    assert "created Deployment shop/web" in watched.stdout
    result = fairlead("deployments", "retry", DEPLOYMENT_ID)
    assert (result.exit_code, result.stderr) == (1, "error: a newer one was deployed (conflict)\n")


def later(record: dict[str, object]) -> dict[str, object]:
    """Return a record as it would come after those of a failure."""
    return record | {"id": 100 + int(str(record["id"]))}


def test_an_id_that_is_none_is_not_sent(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """It says where to find ids."""
    result = fairlead("deployments", "show", "../whoami")
    assert result.exit_code == 2
    assert "fairlead deployments list" in result.stderr
