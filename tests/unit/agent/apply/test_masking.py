"""What must not be shown of a text that leaves the cluster."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from fairlead_agent.apply.masking import CUT, Mask
from fairlead_agent.errors import MissingRight
from fairlead_agent.kube.access import ClusterAccess
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.resources import Resource
from fairlead_shared.objects import ObjectRef


def masking(*values: bytes) -> Mask:
    """Return a mask of some values."""
    mask = Mask()
    mask.add(lambda: values)
    return mask


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"hunter2", base64.b64encode(b"hunter2")),
        (b"hunter2", base64.b64encode(b"hunter2").rstrip(b"=")),
        (b"hunter2", base64.b64encode(b"hunter2\n")),  # as `echo $PASSWORD | base64` says it
        (b"hunter2\n", base64.b64encode(b"hunter2")),
        (b"\xff\xfe\x00\xfb\xef", base64.b64encode(b"\xff\xfe\x00\xfb\xef")),
        (b"\xff\xfe\x00\xfb\xef", base64.urlsafe_b64encode(b"\xff\xfe\x00\xfb\xef")),
        *((b"hunter2", base64.b64encode(b"user"[:length] + b"hunter2")) for length in range(1, 4)),
    ],
)
def test_a_value_in_base64_is_masked(value: bytes, said: bytes) -> None:
    """As `data` of a Secret has it, or what is encoded with more around it; what is beside it stays."""
    shown = masking(value).hide(f"token={said.decode()}; failed")
    before, after = shown.split("***")
    assert before.startswith("token=")
    assert len(before) <= len("token=dXNl"), "no more than what was before the value"
    assert after in {"; failed", "o=; failed"}, "no more than the end of its line"


def test_a_long_value_in_base64_is_masked_in_lines() -> None:
    """`base64` breaks what it prints after 76 characters."""
    value = bytes(range(256))
    shown = masking(value).hide(f"it is\n{base64.encodebytes(value).decode()}over\n")
    assert shown.splitlines() == ["it is", *["***"] * 5, "over"]


def test_what_is_no_value_in_base64_stays() -> None:
    """A short value has a short code, which other words have in them."""
    assert masking(b"a", b"abc", b"\n\na\n\n\n").hide("Yes, YWJj and QQ==") == "Yes, YWJj and QQ=="


def test_what_a_cut_left_of_a_value_is_masked() -> None:
    """What a container said as it ended is shortened before anybody knows whose Secrets it quotes."""
    assert (
        masking(b"hunter2").hide(f"it crashed: password=hunt{CUT} (Error)") == f"it crashed: password=***{CUT} (Error)"
    )
    assert masking(b"hunter2").hide(f"token=aHVudGVy{CUT}") == f"token=***{CUT}"
    assert masking(b"hunter2").hide(f"hun{CUT}") == f"hun{CUT}", "too short to be one"
    assert masking(b"hunthunter2").hide(f"hunthunt{CUT}hunt{CUT} hunt") == f"***{CUT}***{CUT} hunt"
    assert masking(b"hunter2").hide(f"hunted{CUT}") == f"hunted{CUT}", "it goes on otherwise"


def test_a_large_value_takes_no_time() -> None:
    """A Secret holds up to a MiB, and each of its lines may be quoted."""
    value = b"hunter2" * 100_000 + b"\n" * 50_000
    assert masking(value, bytes(range(256)) * 2000).hide(f"it said hunter2hunter2{CUT}") == f"it said ***{CUT}"


def test_values_are_asked_for_when_there_is_something_to_show() -> None:
    """To open thousands of sealed values takes a while, and most deployments go well."""
    mask, asked = Mask(), []

    def values() -> list[bytes]:
        asked.append(1)
        return [b"hunter2"]

    mask.add(values)
    assert (mask.hide(""), asked) == ("", [])
    assert (mask.hide("hunter2"), mask.hide("hunter2"), asked) == ("***", "***", [1])
    mask.add(lambda: [b"root"])
    assert mask.hide("root: hunter2") == "***: ***"


class _Secrets(KubeClient):
    """A client with the Secret `login`, which forbids to read the Secret `locked`."""

    def __init__(self) -> None:
        super().__init__(ClusterAccess("https://none.invalid", Path("ca.crt"), Path("token")))

    async def find(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        """Return the Secret."""
        if name == "locked":
            raise MissingRight("get", resource.group, resource.plural, namespace)
        return {"data": {"user": "cm9vdA==", "password": "aHVudGVyMg=="}} if name == "login" else None


def ref(kind: str, name: str) -> ObjectRef:
    """Return a reference to an object of the core group."""
    return ObjectRef(api_version="v1", kind=kind, namespace="shop", name=name)


async def test_live_values_are_masked_and_one_that_cannot_be_read_lets_nothing_through() -> None:
    """Nothing but Secrets is read; one that is gone has no value to hide."""
    mask, refs = Mask(), [ref("Secret", "login"), ref("Secret", "gone"), ref("ConfigMap", "locked")]
    await mask.add_live(_Secrets(), refs)
    assert (mask.refusal, mask.hide("root has hunter2")) == ("", "*** has ***")
    await mask.add_live(_Secrets(), [*refs, ref("Secret", "locked")])
    assert mask.refusal.startswith("not shown, since values of Secrets might be in it: the agent may not get secrets")
    assert (mask.hide("it crashed"), mask.hide("")) == (mask.refusal, "")
