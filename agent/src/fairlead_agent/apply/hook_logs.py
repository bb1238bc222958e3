"""
The last log lines of a hook that failed: which container's they are, and what of them may be shown.

They leave the cluster in the reason of a failed deployment, so values of the bundle's Secrets are masked, also in
base64 as a Secret's `data` or a header has them; and control characters are written out: a log must not move the cursor
of whoever reads it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fairlead_agent.errors import KubeError, MissingRight
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.resources import PODS, SECRETS, Resource
from fairlead_agent.together import together
from fairlead_shared.objects import ObjectRef

_LINES = 20
_CHARACTERS = 3000
"""So that the lines fit into the cause of a result, behind its sentence."""
_READ_BYTES = 64 * 1024
"""Of twenty lines, which may be as long as a container likes."""
_MASK = "***"
_SHORTEST_SECRET = 4
"""Characters of a value that is masked: every `1` masked would hide the reason and no secret."""
_BASE64_UNITS = 3
"""Bytes that make four characters of base64 together; text before a value may leave it at any of them."""
_URL_SAFE = str.maketrans("+/", "-_")
_JOB_LABEL = "batch.kubernetes.io/controller-uid"
"""Source: https://kubernetes.io/docs/reference/labels-annotations-taints/#batchkubernetesio-controller-uid"""


async def last_lines(client: KubeClient, resource: Resource, ref: ObjectRef, uid: str, secrets: Iterable[bytes]) -> str:
    """
    Return what a hook's container said last, as a text to follow the reason.

    Args:
        client: Of the cluster.
        resource: Where the hook's kind is served.
        ref: The hook, a Job or a Pod.
        uid: Its UID.
        secrets: Values that must not be shown.
    Returns: The lines below a title, or the right that is missing for them; empty if there are none.
    """
    try:
        return await _read(client, resource, ref, uid, secrets)
    except MissingRight as error:
        return f"its log cannot be read: needs\n{error.rule_yaml()}"
    except KubeError:
        return ""  # the reason stands without


async def _read(client: KubeClient, resource: Resource, ref: ObjectRef, uid: str, secrets: Iterable[bytes]) -> str:
    if resource == PODS:
        pods = [live] if (live := await client.find(PODS, ref.namespace, ref.name)) is not None else []
    else:
        pods = (await client.page(PODS, ref.namespace, label_selector=f"{_JOB_LABEL}={uid}")).items
    speaker = _speaker(pods)
    if speaker is None:
        return ""
    pod, container, previous = speaker
    text = await client.log(ref.namespace, pod, container, lines=_LINES, most_bytes=_READ_BYTES, previous=previous)
    shown = shown_lines(text, secrets, is_cut=len(text.encode()) >= _READ_BYTES)
    return f"the last lines of container {container} of pod {pod}:\n{shown}" if shown else ""


async def live_secrets(client: KubeClient, refs: Iterable[ObjectRef]) -> list[bytes]:
    """
    Return the values of Secrets in the cluster, for what no bundle at hand has; none of one that is gone.

    Raises: KubeError: one of them cannot be read.
    """
    secrets = [ref for ref in refs if (ref.group, ref.kind) == (SECRETS.group, SECRETS.kind)]
    found = await together(client.find(SECRETS, ref.namespace, ref.name) for ref in secrets)
    values = (value for live in found if live is not None for value in (live.get("data") or {}).values())
    return [base64.b64decode(value) for value in values]


def shown_lines(text: str, secrets: Iterable[bytes], *, is_cut: bool = False) -> str:
    """
    Return the end of a log as it may be shown.

    Args:
        text: The log.
        secrets: Values to mask, whole, each of their lines, and in base64.
        is_cut: Whether it goes on; what stands at its end may then be the beginning of one.
    """
    values = {value for value in secrets if len(value) >= _SHORTEST_SECRET}
    plain = {part for value in values for part in _lines(value)}
    encoded = {part for value in values for part in _base64(value)}
    for part in sorted(plain, key=len, reverse=True):
        text = text.replace(part, _MASK)
    for part in sorted(encoded, key=len, reverse=True):
        if part in text:
            # The characters beside it may hold a few bits of the value, too.
            text = re.sub(rf"[\w+/-]?{re.escape(part)}[\w+/-]?=*", _MASK, text, flags=re.ASCII)
    if is_cut and values:
        text = text[: -max(map(len, plain | encoded))]
    lines = [_printable(line) for line in text.replace("\r\n", "\n").strip("\n").split("\n")]
    return "\n".join(lines[-_LINES:])[-_CHARACTERS:]


def _lines(value: bytes) -> Iterator[str]:
    """Yield a value and its lines, as text."""
    text = value.decode(errors="replace")
    yield from (part for part in (text, *text.splitlines()) if len(part) >= _SHORTEST_SECRET)


def _base64(value: bytes) -> Iterator[str]:
    """
    Yield what base64 has of a value wherever it stands in what is encoded, as `user:password` in a header.

    Source: RFC 4648, clauses 4 and 5 (URL-safe), and RFC 2045, clause 6.8 (its lines, as `base64` prints).
    """
    for content in {value, value.strip() if len(value.strip()) >= _SHORTEST_SECRET else value}:
        for before in range(_BASE64_UNITS):
            encoded = base64.b64encode(bytes(before) + content).decode()
            sure = encoded[(before * 8 + 5) // 6 : (before + len(content)) * 8 // 6]
            yield from {sure, sure.translate(_URL_SAFE)}
        yield from (line for line in base64.encodebytes(content).decode().splitlines() if len(line) >= _SHORTEST_SECRET)


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
