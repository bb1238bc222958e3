"""`fairlead status`."""

from collections.abc import Callable

from click.testing import Result

from tests.unit.cli.scripted_relay import ENVIRONMENT, FAILURE, ORGANIZATION, ScriptedRelay, environment, stream


def test_the_exit_code_is_the_health(fairlead: Callable[..., Result], relay: ScriptedRelay) -> None:
    """Headline, then cause, then the tree."""
    relay.answer(f"GET {ENVIRONMENT}", environment())
    relay.answer(f"POST {ENVIRONMENT}/health-checks", {"job_id": "job1"})
    relay.answer(f"GET {ORGANIZATION}/jobs/job1/events", stream(FAILURE))
    result = fairlead("status", "shop/staging")
    assert result.exit_code == 5
    assert result.stdout.splitlines() == [
        "shop/staging: Degraded",
        "cause: container web: image nope:1 is not there",
        "└── Deployment shop/web  Degraded: container web: image nope:1 is not there",
    ]
    assert relay.bodies(f"POST {ENVIRONMENT}/health-checks") == [{"deadline_seconds": 30.0}]
