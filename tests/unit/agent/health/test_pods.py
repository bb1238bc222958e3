"""Causes found in pods, from statuses as kubelets write them."""

from datetime import UTC, datetime
from typing import Any

import pytest

from fairlead_agent.health.pods import Event, event_of, newest, pod_of, verdict_of_pod
from fairlead_shared.progress import HealthStatus

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()


def pod(*containers: dict[str, Any], init: tuple[dict[str, Any], ...] = (), **status: Any) -> Any:  # noqa: ANN401
    """Return a pod with these container statuses."""
    spec = [{"name": "web", "image": "web:1", "resources": {"limits": {"memory": "64Mi"}}}]
    manifest = {
        "metadata": {"name": "web-1", "namespace": "shop", "uid": "p1"},
        "spec": {"containers": spec, "initContainers": [{"name": "init", "image": "init:1"}]},
        "status": {"phase": "Pending", "containerStatuses": containers, "initContainerStatuses": init, **status},
    }
    return pod_of(manifest)


def container(name: str = "web", *, restarts: int = 0, last: Any = None, **state: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a container's status."""
    last_state = {"terminated": last} if last else {}
    return {"name": name, "ready": False, "restartCount": restarts, "state": state, "lastState": last_state}


def cause(found: Any, *events: Event, now: float = NOW) -> str:  # noqa: ANN401
    """Return the cause of a degraded pod."""
    verdict = verdict_of_pod(found, events, now)
    assert verdict.status is HealthStatus.DEGRADED, verdict
    return verdict.cause


def ended(code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    """Return a terminated state after a run of two seconds."""
    return {
        "exitCode": code,
        "reason": reason,
        "message": message,
        "startedAt": "2026-01-01T11:59:50Z",
        "finishedAt": "2026-01-01T11:59:52Z",
    }


def test_image_pull_error_gives_the_registrys_words() -> None:
    """The waiting message has them, unless it only says that it backs off; then an event has."""
    waiting = {"reason": "ErrImagePull", "message": "rpc error: not found"}
    assert cause(pod(container(waiting=waiting))) == (
        "container web of Pod web-1 cannot pull image web:1: rpc error: not found (ErrImagePull)"
    )
    backing_off = container(waiting={"reason": "ImagePullBackOff", "message": 'Back-off pulling image "web:1"'})
    event = Event("p1", "Failed", "Failed to pull image: 403 Forbidden", NOW)
    assert "403 Forbidden (ImagePullBackOff)" in cause(pod(backing_off), event)


def test_missing_configuration_gives_the_kubelets_words() -> None:
    """It names the ConfigMap."""
    waiting = {"reason": "CreateContainerConfigError", "message": 'configmap "absent" not found'}
    assert 'configmap "absent" not found' in cause(pod(container(waiting=waiting)))


def test_crash_loop_gives_exit_code_and_last_message() -> None:
    """The state before tells why."""
    looping = container(waiting={"reason": "CrashLoopBackOff"}, last=ended(3, message="no database\n"), restarts=4)
    assert cause(pod(looping)) == (
        "container web of Pod web-1 crashed with exit code 3: no database (Error, 4 restarts)"
    )


def test_memory_kill_gives_the_limit() -> None:
    """The number that was too small."""
    looping = container(waiting={"reason": "CrashLoopBackOff"}, last=ended(137, "OOMKilled"), restarts=1)
    assert "its limit of 64Mi (OOMKilled, 1 restarts)" in cause(pod(looping))


def test_init_container_is_named_as_such() -> None:
    """It comes before the containers that wait for it."""
    failing = container("init", terminated=ended(1))
    waiting = container(waiting={"reason": "PodInitializing"})
    assert cause(pod(waiting, init=(failing,))).startswith("init container init of Pod web-1 crashed")


def test_finished_init_container_is_no_cause() -> None:
    """Exit code 0 is what it is for."""
    done = container("init", terminated=ended(0, "Completed"))
    found = verdict_of_pod(pod(container(waiting={"reason": "PodInitializing"}), init=(done,)), (), NOW)
    assert found.status is HealthStatus.PROGRESSING


def test_container_that_crashed_twice_is_not_believed_at_once() -> None:
    """Running again means little until it runs longer than the time before."""
    again = container(running={"startedAt": "2026-01-01T11:59:58Z"}, last=ended(1), restarts=2)
    found = pod(again, phase="Running")
    assert "crashed with exit code 1" in cause(found)
    later = verdict_of_pod(found, (), NOW + 30)
    assert later.status is HealthStatus.PROGRESSING


def test_container_that_crashed_once_gets_its_time() -> None:
    """Its database may have been starting."""
    again = container(running={"startedAt": "2026-01-01T11:59:58Z"}, last=ended(1), restarts=1)
    assert verdict_of_pod(pod(again, phase="Running"), (), NOW).status is HealthStatus.PROGRESSING


def test_unready_container_gives_the_newest_answer_of_its_probe() -> None:
    """A slow start is no fault, but worth saying."""
    running = container(running={"startedAt": "2026-01-01T11:59:58Z"})
    events = [
        Event("p1", "Unhealthy", f"Readiness probe failed: {code}", NOW - age) for code, age in ((500, 9), (503, 1))
    ]
    verdict = verdict_of_pod(pod(running, phase="Running"), events, NOW)
    assert verdict.status is HealthStatus.PROGRESSING
    assert verdict.cause.endswith("is not ready: Readiness probe failed: 503")


def test_unschedulable_pod_gives_the_schedulers_words() -> None:
    """Reasons per node."""
    conditions = [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"}
    ]
    assert cause(pod(conditions=conditions)) == "Pod web-1 cannot be scheduled: 0/3 nodes are available"


def test_volume_that_cannot_be_mounted_is_found_in_events() -> None:
    """The pod's own status says only that it creates containers."""
    creating = container(waiting={"reason": "ContainerCreating"})
    event = Event("p1", "FailedMount", 'secret "absent" not found', NOW)
    assert cause(pod(creating), event) == 'Pod web-1 cannot start: secret "absent" not found (FailedMount)'


def test_evicted_pod_says_why() -> None:
    """The kubelet's message."""
    found = pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory.")
    assert "low on resource: memory. (Evicted)" in cause(found)


def test_sidecar_that_runs_does_not_hide_the_container_that_crashes() -> None:
    """Every container is looked at."""
    sidecar = {**container("proxy", running={"startedAt": "2026-01-01T11:59:58Z"}), "ready": True}
    looping = container(waiting={"reason": "CrashLoopBackOff"}, last=ended(1), restarts=3)
    assert "container web" in cause(pod(sidecar, looping, phase="Running"))


@pytest.mark.parametrize("phase", ["Running", "Succeeded"])
def test_ready_or_finished_pod_is_healthy(phase: str) -> None:
    """Nothing of its past is held against it."""
    crashed_before = {
        **container(running={"startedAt": "2026-01-01T11:00:00Z"}, last=ended(1), restarts=9),
        "ready": True,
    }
    found = pod(crashed_before, phase=phase, conditions=[{"type": "Ready", "status": "True"}])
    assert verdict_of_pod(found, (), NOW).status is HealthStatus.HEALTHY


def test_events_that_explain_nothing_are_dropped() -> None:
    """Thousands of `Pulled` and `Scheduled` need no memory."""
    assert event_of({"reason": "Scheduled", "metadata": {}}) is None
    kept = event_of(
        {
            "reason": "FailedMount",
            "message": "x" * 5000,
            "involvedObject": {"uid": "p1"},
            "metadata": {"creationTimestamp": "2026-01-01T12:00:00Z"},
        }
    )
    assert kept is not None
    assert (kept.uid, kept.seen, len(kept.message)) == ("p1", NOW, 800)


def test_newest_event_of_several_reasons_wins() -> None:
    """A later success makes an older failure history."""
    failed, made = Event("r", "FailedCreate", "quota", NOW - 5), Event("r", "SuccessfulCreate", "made", NOW)
    assert newest([failed, made], "FailedCreate", "SuccessfulCreate") is made
    assert newest([made], "FailedCreate") is None
