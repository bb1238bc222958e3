"""`fairlead jobs`."""

from collections.abc import Callable

from click.testing import Result

from fairlead_cli.commands.jobs import STATES
from fairlead_shared.jobs import JobState
from tests.unit.cli.scripted_relay import DEPLOYMENT_ID, MOMENT, ORGANIZATION, ScriptedRelay

Fairlead = Callable[..., Result]
JOB_ID = "01k9x0q6v3t1m8c5n7b2d4f6jj"
JOBS = f"{ORGANIZATION}/jobs"
JOB = {
    "id": JOB_ID,
    "kind": "deploy",
    "cluster": "prod",
    "application": "shop",
    "environment": "staging",
    "deployment_id": DEPLOYMENT_ID,
    "priority": 0,
    "state": "failed",
    "attempt": 2,
    "reason": "",
    "outcome": "failed",
    "code": "unhealthy",
    "cause": "Deployment web is not healthy",
    "counts": {},
    "created_by": "token1",
    "created_at": MOMENT,
    "started_at": None,
    "finished_at": None,
    "deadline": MOMENT,
}


def test_list_asks_for_what_is_wanted(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """States together, the environment by its two names; the deployment to retry is shown."""
    health = JOB | {"kind": "health", "application": None, "environment": None, "deployment_id": None}
    relay.answer(f"GET {JOBS}", {"items": [JOB, health]})
    where = ("--env", "shop/staging", "--cluster", "prod", "--kind", "deploy")
    lines = fairlead("jobs", "list", "--failed", "--state", "queued", *where).stdout.splitlines()
    assert lines[1].split()[:4] == [JOB_ID, "deploy", "shop/staging", "failed"]
    assert DEPLOYMENT_ID in lines[1]
    assert lines[2].split()[2] == "prod"
    query = relay.requests[0].url.params
    assert query.get_list("state") == ["queued", "failed", "refused", "expired"]
    assert {name: query[name] for name in ("application", "environment", "cluster", "kind", "limit")} == {
        "application": "shop",
        "environment": "staging",
        "cluster": "prod",
        "kind": "deploy",
        "limit": "20",
    }
    fairlead("jobs", "list", "--limit", "1000")
    assert dict(relay.requests[1].url.params) == {"limit": "500"}


def test_show_and_cancel(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """One record, a line for each field."""
    relay.answer(f"GET {JOBS}/{JOB_ID}", JOB)
    relay.answer(f"POST {JOBS}/{JOB_ID}/cancel", JOB | {"state": "cancelled"})
    assert "Reason:      Deployment web is not healthy" in fairlead("jobs", "show", JOB_ID).stdout
    assert "cancelled" in fairlead("jobs", "cancel", JOB_ID).stdout


def test_every_state_can_be_asked_for() -> None:
    """They are written out, so that help needs no import."""
    assert set(STATES) == set(JobState)
