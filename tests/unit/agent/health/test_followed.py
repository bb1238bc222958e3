"""What is kept of an object that is followed."""

from typing import Any

import pytest

from fairlead_agent.apply.live import digest_of
from fairlead_agent.health.followed import Follow
from fairlead_agent.health.verdict import HEALTHY
from fairlead_agent.kube.resources import CONFIG_MAPS, PODS

JOB = {
    "metadata": {"name": "a", "uid": "1"},
    "spec": {},
    "status": {"conditions": [{"type": "Complete", "status": "True"}]},
}


def test_health_and_digest_are_kept_and_nothing_else() -> None:
    """Of thousands of objects; one whose status alone changes has the digest that it had."""
    running = {**JOB, "status": {"active": 1}}
    done, before = (Follow("batch", "Job")(manifest) for manifest in (JOB, running))
    assert (done.uid, done.verdict, done.has_ended) == ("1", HEALTHY, True)
    assert (before.verdict.cause, before.has_ended) == ("it runs", False)
    assert done.digest == before.digest == digest_of(JOB)


def test_those_who_follow_the_same_kind_share_a_watch() -> None:
    """Whoever they are."""
    assert Follow.of(PODS) == Follow("", "Pod")
    assert Follow.of(PODS) != Follow.of(CONFIG_MAPS)


@pytest.mark.parametrize(
    "status",
    [
        {"conditions": {"Ready": "True"}},
        {"conditions": ["Ready"]},
        {"conditions": "Ready"},
        {"conditions": 3},
        {"conditions": [{"type": ["Ready"], "status": "False"}]},
        {"conditions": [{"type": "Ready", "status": "True", "observedGeneration": "1"}]},
        {"observedGeneration": "1"},
    ],
)
def test_no_status_of_a_custom_resource_ends_its_watch(status: dict[str, Any]) -> None:
    """All jobs and all drift of its namespace look through it; what cannot be read says nothing."""
    thing = {"metadata": {"name": "a", "uid": "1", "generation": 2}, "spec": {}, "status": status}
    followed = Follow("acme.example", "Thing")(thing)
    assert (followed.verdict, followed.has_ended) == (HEALTHY, False)
