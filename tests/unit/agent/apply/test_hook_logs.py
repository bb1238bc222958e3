"""What of a hook's log may be shown, and whose log it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fairlead_agent.apply.hook_logs import last_lines, shown_lines
from fairlead_agent.apply.masking import Mask
from fairlead_agent.errors import InvalidObject, KubeError, MissingRight
from fairlead_agent.kube.access import ClusterAccess
from fairlead_agent.kube.client import KubeClient, Page
from fairlead_agent.kube.resources import PODS, Resource
from fairlead_shared.objects import ObjectRef

JOBS = Resource("batch", "v1", "Job", "jobs", namespaced=True)
JOB = ObjectRef(api_version="batch/v1", kind="Job", namespace="shop", name="migrate")


def masking(*values: str) -> Mask:
    """Return a mask of some values."""
    mask = Mask()
    mask.add(lambda: [value.encode() for value in values])
    return mask


@pytest.mark.parametrize(
    ("text", "secrets", "shown"),
    [
        ("one\ntwo\n", [], "one\ntwo"),
        ("", [], ""),
        ("password is hunter2, hunter2!\n", ["hunter2"], "password is ***, ***!"),
        ("-----BEGIN KEY-----\nc2VjcmV0\n", ["-----BEGIN KEY-----\nc2VjcmV0\n"], "***"),
        ("it said c2VjcmV0\n", ["-----BEGIN KEY-----\nc2VjcmV0\n"], "it said ***"),
        ("hunter22\n", ["hunter", "hunter22"], "***"),
        ("a yes and a no\n", ["a", "no"], "a yes and a no"),
        ("\x1b[31mred\x07\r\nnext\ttab\u202e\n", [], "\\x1b[31mred\\x07\nnext\ttab\\u202e"),
        ("\n".join(str(number) for number in range(30)), [], "\n".join(str(number) for number in range(10, 30))),
        ("x" * 4000 + "end", [], "x" * 2997 + "end"),
    ],
)
def test_only_what_may_leave_the_cluster_is_shown(text: str, secrets: list[str], shown: str) -> None:
    """Values of Secrets are masked, whole and by line; nothing moves a reader's cursor; twenty lines, the last ones."""
    assert shown_lines(text, masking(*secrets)) == shown


def test_of_a_log_that_goes_on_no_beginning_of_a_secret_is_shown() -> None:
    """It was cut off at so many bytes, wherever that was."""
    assert shown_lines("it is hunter2 or hun", masking("hunter2"), is_cut=True) == "it i"
    assert shown_lines("it is or aHVudGVy", masking("hunter2"), is_cut=True) == "it is"
    assert shown_lines("a hunter2", masking("hunter2"), is_cut=False) == "a ***"
    assert shown_lines("it goes on", masking(), is_cut=True) == "it goes on"


class _Logs(KubeClient):
    """A client with some pods, that tells which log it was asked for."""

    def __init__(self, pods: list[dict[str, Any]], error: KubeError | None = None) -> None:
        super().__init__(ClusterAccess("https://none.invalid", Path("ca.crt"), Path("token")))
        self._pods = pods
        self._error = error

    async def page(self, *_: Any, label_selector: str = "", **__: Any) -> Page:  # noqa: ANN401
        """Return the pods of one Job."""
        assert label_selector == "batch.kubernetes.io/controller-uid=u1"
        return Page(self._pods, "1", "")

    async def find(self, *_: Any) -> dict[str, Any] | None:  # noqa: ANN401
        """Return the pod."""
        return self._pods[0] if self._pods else None

    async def log(self, namespace: str, pod: str, container: str, *, previous: bool = False, **_: int) -> str:
        """Return whose log it is."""
        if self._error is not None:
            raise self._error
        return f"{namespace} {pod} {container} {previous}\n"


def pod(name: str, *, inits: Sequence[Mapping[str, Any]] = (), mains: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a pod with containers in these states."""
    return {"metadata": {"name": name}, "status": {"initContainerStatuses": inits, "containerStatuses": mains}}


def ended(name: str, code: int, at: int, field: str = "state") -> dict[str, Any]:
    """Return the status of a container that ended."""
    return {"name": name, field: {"terminated": {"exitCode": code, "finishedAt": f"2026-11-29T10:00:{at:02}Z"}}}


RUNNING = {"name": "main", "state": {"running": {"startedAt": "2026-11-29T11:00:00Z"}}}


@pytest.mark.parametrize(
    ("pods", "asked"),
    [
        ([pod("a", mains=[ended("main", 1, 5)])], "a main False"),
        ([pod("a", mains=[ended("main", 1, 5)]), pod("b", mains=[ended("main", 1, 9)])], "b main False"),
        ([pod("a", inits=[ended("init", 1, 1)], mains=[ended("main", 0, 5)])], "a init False"),
        ([pod("a", mains=[ended("main", 1, 5, "lastState")])], "a main True"),
        ([pod("a", mains=[RUNNING]), pod("b", mains=[ended("main", 1, 9)])], "b main False"),
        ([pod("a", mains=[RUNNING])], "a main False"),
    ],
)
async def test_whoever_failed_last_is_quoted(pods: list[dict[str, Any]], asked: str) -> None:
    """The latest failure of any container, else what still runs."""
    said = await last_lines(_Logs(pods), JOBS, JOB, "u1", Mask())
    name, container, _ = asked.split()
    assert said == f"the last lines of container {container} of pod {name}:\nshop {asked}"


async def test_a_pod_is_its_own_speaker() -> None:
    """A hook may be a pod by itself."""
    said = await last_lines(_Logs([pod("a", mains=[ended("main", 1, 5)])]), PODS, JOB, "u1", Mask())
    assert said.endswith("shop a main False")


@pytest.mark.parametrize(
    ("error", "starts"),
    [
        (MissingRight("get", "", "pods/log", "shop"), "its log cannot be read: needs\n# Role in namespace shop\n"),
        (InvalidObject("container is waiting to start", []), ""),
    ],
)
async def test_what_keeps_from_the_log_is_said_or_left(error: KubeError, starts: str) -> None:
    """A missing right with its rule; a container that never started has no log, and the cause says why."""
    said = await last_lines(_Logs([pod("a", mains=[ended("main", 1, 5)])], error), JOBS, JOB, "u1", Mask())
    assert said.startswith(starts)
    assert bool(said) == bool(starts)


async def test_without_a_container_that_ran_nothing_is_said() -> None:
    """Its pods are gone, or wait for an image."""
    waiting = {"name": "main", "state": {"waiting": {"reason": "ImagePullBackOff"}}}
    assert await last_lines(_Logs([pod("a", mains=[waiting])]), JOBS, JOB, "u1", Mask()) == ""
    assert await last_lines(_Logs([]), JOBS, JOB, "u1", Mask()) == ""
