"""
Pods: why one is not ready, in one sentence that names container, reason and evidence. Pure: no I/O.

Only a pod tells early: a Deployment says after ten minutes what a pod says after one second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fairlead_agent.apply.masking import CUT
from fairlead_agent.health.verdict import HEALTHY, Verdict, owner_uid
from fairlead_shared.progress import HealthStatus

_PULL_REASONS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}
)
_CONFIG_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_START_REASONS = ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox", "FailedMapVolume")
"""Events that say why a scheduled pod's containers are not created."""
_REPEATED = 2
"""Restarts after which a container that runs again is not believed yet."""
_CONVINCING_SECONDS = 10.0
"""How much longer than the run that crashed a container must run to be believed."""
_MESSAGE_CHARACTERS = 800
JOB_FAILURES = ("BackoffLimitExceeded", "DeadlineExceeded", "PodFailurePolicy")
"""What the job controller calls the end of a Job that failed."""
KEPT_EVENTS = frozenset(
    {
        *_START_REASONS,
        *JOB_FAILURES,
        "Completed",
        "Unhealthy",
        "Failed",
        "FailedCreate",
        "SuccessfulCreate",
        "WaitForFirstConsumer",
        "FailedBinding",
        "ProvisioningFailed",
    }
)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a container's run ended."""

    exit_code: int
    reason: str
    message: str
    seconds: float
    """How long it had run."""


@dataclass(frozen=True, slots=True)
class Container:
    """One container as its pod's status shows it."""

    name: str
    image: str
    memory_limit: str
    is_init: bool
    ready: bool
    restarts: int
    waiting: tuple[str, str] | None
    """(reason, message)."""
    running_since: float | None
    ended: Ended | None
    """Of the present state, if it is not running."""
    last_ended: Ended | None
    """Of the run before."""


@dataclass(frozen=True, slots=True)
class Pod:
    """What health keeps of a pod."""

    namespace: str
    name: str
    uid: str
    owner: str
    phase: str
    reason: str
    message: str
    ready: bool
    deleted: bool
    unschedulable: str
    containers: tuple[Container, ...]
    """Init containers first."""


@dataclass(frozen=True, slots=True)
class Event:
    """What health keeps of a Kubernetes Event."""

    uid: str
    """Of the object it is about."""
    reason: str
    message: str
    seen: float


def pod_of(manifest: Mapping[str, Any]) -> Pod:
    """Project a pod."""
    metadata, spec, status = manifest["metadata"], manifest.get("spec") or {}, manifest.get("status") or {}
    conditions = {entry.get("type"): entry for entry in status.get("conditions") or []}
    scheduled = conditions.get("PodScheduled", {})
    return Pod(
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        owner=owner_uid(manifest),
        phase=status.get("phase", "Pending"),
        reason=status.get("reason", ""),
        message=_short(status.get("message", "")),
        ready=conditions.get("Ready", {}).get("status") == "True",
        deleted="deletionTimestamp" in metadata,
        unschedulable=_short(scheduled.get("message", "")) if scheduled.get("reason") == "Unschedulable" else "",
        containers=(
            *_containers(spec.get("initContainers"), status.get("initContainerStatuses"), is_init=True),
            *_containers(spec.get("containers"), status.get("containerStatuses"), is_init=False),
        ),
    )


def event_of(manifest: Mapping[str, Any]) -> Event | None:
    """Project an Event; None for those that explain nothing."""
    if manifest.get("reason") not in KEPT_EVENTS:
        return None
    series = manifest.get("series") or {}
    seen = series.get("lastObservedTime") or manifest.get("lastTimestamp") or manifest.get("eventTime")
    return Event(
        uid=(manifest.get("involvedObject") or {}).get("uid", ""),
        reason=manifest["reason"],
        message=_short(manifest.get("message") or ""),
        seen=_seconds(seen or manifest["metadata"].get("creationTimestamp")) or 0.0,
    )


def newest(events: Sequence[Event], *reasons: str) -> Event | None:
    """Return the newest event with one of these reasons."""
    return max((event for event in events if event.reason in reasons), key=lambda event: event.seen, default=None)


def verdict_of_pod(pod: Pod, events: Sequence[Event], now: float) -> Verdict:
    """
    Return the verdict on a pod.

    Args:
        pod: The pod.
        events: Events about it.
        now: Seconds since the epoch.
    """
    if pod.phase == "Succeeded" or (pod.phase == "Running" and pod.ready):
        return HEALTHY
    named = f"Pod {pod.name}"
    if pod.unschedulable:
        return Verdict(HealthStatus.DEGRADED, f"{named} cannot be scheduled: {pod.unschedulable}")
    if pod.phase == "Failed" and pod.reason:
        return Verdict(HealthStatus.DEGRADED, f"{named} failed: {pod.message or pod.reason} ({pod.reason})")
    for container in pod.containers:
        cause = _cause_of_container(container, events, now)
        if cause:
            kind = "init container" if container.is_init else "container"
            return Verdict(HealthStatus.DEGRADED, f"{kind} {container.name} of {named} {cause}")
    if not any(container.running_since or container.ended for container in pod.containers):
        blocked = newest(events, *_START_REASONS)
        if blocked is not None:
            return Verdict(HealthStatus.DEGRADED, f"{named} cannot start: {blocked.message} ({blocked.reason})")
    unready = next((one for one in pod.containers if one.running_since and not one.ready and not one.is_init), None)
    if unready is not None:
        probe = newest(events, "Unhealthy")
        said = f": {probe.message}" if probe is not None else " yet"
        return Verdict(HealthStatus.PROGRESSING, f"container {unready.name} of {named} is not ready{said}")
    return Verdict(HealthStatus.PROGRESSING, f"{named} is not ready yet")


def _cause_of_container(container: Container, events: Sequence[Event], now: float) -> str:
    """Return what is wrong with a container, as the rest of a sentence; empty if it may just need time."""
    reason, message = container.waiting or ("", "")
    if reason in _PULL_REASONS:
        if "rror" not in message and (failed := newest(events, "Failed")) is not None:
            message = failed.message
        return f"cannot pull image {container.image}: {message or reason} ({reason})"
    if reason in _CONFIG_REASONS:
        return f"cannot be started: {message or reason} ({reason})"
    ended = container.ended or container.last_ended
    if ended is None or (ended.exit_code == 0 and container.is_init) or container.ready:
        return ""
    if reason == "CrashLoopBackOff" or (container.ended is not None and container.ended.exit_code != 0):
        return _crash(container, ended)
    running = container.running_since
    if running is None or container.restarts < _REPEATED or now - running >= ended.seconds + _CONVINCING_SECONDS:
        return ""
    return _crash(container, ended)


def _crash(container: Container, ended: Ended) -> str:
    times = f", {container.restarts} restarts" if container.restarts else ""
    if ended.reason == "OOMKilled":
        limit = f" of {container.memory_limit}" if container.memory_limit else ""
        return f"was killed because it used more memory than its limit{limit} (OOMKilled{times})"
    said = f": {ended.message.strip()}" if ended.message.strip() else ""
    return f"crashed with exit code {ended.exit_code}{said} ({ended.reason or 'Error'}{times})"


def _containers(specs: Any, statuses: Any, *, is_init: bool) -> Sequence[Container]:  # noqa: ANN401  (JSON)
    by_name = {spec.get("name"): spec for spec in specs or []}
    return [_container(by_name.get(status.get("name"), {}), status, is_init=is_init) for status in statuses or []]


def _container(spec: Mapping[str, Any], status: Mapping[str, Any], *, is_init: bool) -> Container:
    state, last = status.get("state") or {}, status.get("lastState") or {}
    waiting, running = state.get("waiting"), state.get("running")
    limits = (spec.get("resources") or {}).get("limits") or {}
    return Container(
        name=status.get("name", ""),
        image=spec.get("image") or status.get("image", ""),
        memory_limit=str(limits.get("memory", "")),
        is_init=is_init,
        ready=bool(status.get("ready")),
        restarts=int(status.get("restartCount") or 0),
        waiting=(waiting.get("reason", ""), _short(waiting.get("message", ""))) if waiting else None,
        running_since=_seconds(running.get("startedAt")) if running else None,
        ended=_ended(state.get("terminated")),
        last_ended=_ended(last.get("terminated")),
    )


def _ended(terminated: Mapping[str, Any] | None) -> Ended | None:
    if not terminated:
        return None
    started, finished = _seconds(terminated.get("startedAt")), _seconds(terminated.get("finishedAt"))
    return Ended(
        exit_code=int(terminated.get("exitCode") or 0),
        reason=terminated.get("reason", ""),
        message=_short(terminated.get("message", "")),
        seconds=max(finished - started, 0.0) if started is not None and finished is not None else 0.0,
    )


def _seconds(text: str | None) -> float | None:
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def _short(text: str) -> str:
    return text if len(text) <= _MESSAGE_CHARACTERS else text[: _MESSAGE_CHARACTERS - 1] + CUT
