"""
The last log lines of a hook that failed: which container's they are, and what of them may be shown.

They leave the cluster in the reason of a failed deployment, so values of Secrets are masked, and control characters are
written out: a log must not move the cursor of whoever reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fairlead_agent.apply.masking import Mask
from fairlead_agent.errors import KubeError, MissingRight
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.resources import PODS, Resource
from fairlead_shared.objects import ObjectRef

_LINES = 20
_CHARACTERS = 3000
"""So that the lines fit into the cause of a result, behind its sentence."""
_READ_BYTES = 64 * 1024
"""Of twenty lines, which may be as long as a container likes."""
_JOB_LABEL = "batch.kubernetes.io/controller-uid"
"""Source: https://kubernetes.io/docs/reference/labels-annotations-taints/#batchkubernetesio-controller-uid"""


async def last_lines(client: KubeClient, resource: Resource, ref: ObjectRef, uid: str, mask: Mask) -> str:
    """
    Return what a hook's container said last, as a text to follow the reason.

    Args:
        client: Of the cluster.
        resource: Where the hook's kind is served.
        ref: The hook, a Job or a Pod.
        uid: Its UID.
        mask: What must not be shown.
    Returns: The lines below a title, or the right that is missing for them; empty if there are none.
    """
    if mask.refusal:
        return f"its log is {mask.refusal}"
    try:
        return await _read(client, resource, ref, uid, mask)
    except MissingRight as error:
        return f"its log cannot be read: needs\n{error.rule_yaml()}"
    except KubeError:
        return ""  # the reason stands without


async def _read(client: KubeClient, resource: Resource, ref: ObjectRef, uid: str, mask: Mask) -> str:
    if resource == PODS:
        pods = [live] if (live := await client.find(PODS, ref.namespace, ref.name)) is not None else []
    else:
        pods = (await client.page(PODS, ref.namespace, label_selector=f"{_JOB_LABEL}={uid}")).items
    speaker = _speaker(pods)
    if speaker is None:
        return ""
    pod, container, previous = speaker
    text = await client.log(ref.namespace, pod, container, lines=_LINES, most_bytes=_READ_BYTES, previous=previous)
    shown = shown_lines(text, mask, is_cut=len(text.encode()) >= _READ_BYTES)
    return f"the last lines of container {container} of pod {pod}:\n{shown}" if shown else ""


def shown_lines(text: str, mask: Mask, *, is_cut: bool = False) -> str:
    """
    Return the end of a log as it may be shown.

    Args:
        text: The log.
        mask: What must not be shown.
        is_cut: Whether it goes on; what stands at its end may then be the beginning of a value.
    """
    text = mask.hide(text)
    if is_cut and mask.longest:
        text = text[: -mask.longest]
    lines = [_printable(line) for line in text.replace("\r\n", "\n").strip("\n").split("\n")]
    return "\n".join(lines[-_LINES:])[-_CHARACTERS:]


def _printable(line: str) -> str:
    return "".join(one if one.isprintable() or one == "\t" else one.encode("unicode_escape").decode() for one in line)


def _speaker(pods: Sequence[Mapping[str, Any]]) -> tuple[str, str, bool] | None:
    """Return pod, container, and whether the run before is meant: of what failed last, else of what still runs."""
    told = [one for pod in pods for one in _containers(pod)]
    return max(told)[1] if told else None


def _containers(pod: Mapping[str, Any]) -> Iterator[tuple[tuple[bool, str], tuple[str, str, bool]]]:
    """Yield each container that has a log, with how much it is to be heard: failed before running, the latest last."""
    status, name = pod.get("status") or {}, pod["metadata"]["name"]
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        for field, previous in (("state", False), ("lastState", True)):
            state = container.get(field) or {}
            ended = state.get("terminated")
            if ended and ended.get("exitCode"):
                yield (True, str(ended.get("finishedAt") or "")), (name, container["name"], previous)
            elif "running" in state:
                yield (False, str(state["running"].get("startedAt") or "")), (name, container["name"], False)
