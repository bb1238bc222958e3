"""What fits into a quota, and who is named when it does not."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from fairlead_agent.apply.demand import Demand, PodSet
from fairlead_agent.apply.quota import Quota, examine, quota_of
from fairlead_shared.objects import ObjectRef


def cpu(amount: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the spec of a pod that asks for CPU."""
    return {"containers": [{"resources": {"requests": {"cpu": amount}}}], **more}


def demand(name: str, wanted: PodSet | None, held: PodSet | None = None, **more: Any) -> Demand:  # noqa: ANN401
    """Return what a Deployment takes."""
    ref = ObjectRef(api_version="apps/v1", kind="Deployment", namespace="shop", name=name)
    return Demand(ref, more.pop("objects", {}), wanted, held, **more)


def said(quota: Quota, *demands: Demand) -> list[tuple[str, str, str]]:
    """Return severity, object and words of each finding."""
    return [(one.severity, one.ref.name if one.ref else "", one.message) for one in examine(quota, demands)]


def quota(**free: str) -> Quota:
    """Return a quota of which so much is left."""
    return Quota("tight", {name.replace("_", "."): Decimal(amount) for name, amount in free.items()})


@pytest.mark.parametrize(
    ("free", "demands", "fits"),
    [
        ("3", [demand("web", PodSet(3, cpu("1")))], True),
        ("2", [demand("web", PodSet(3, cpu("1")))], False),
        ("0", [demand("web", PodSet(3, cpu("1")), PodSet(3, cpu("1")))], True),
        ("1", [demand("web", PodSet(3, cpu("1")), PodSet(2, cpu("1")))], True),
        ("1", [demand("web", PodSet(3, cpu("2")), PodSet(3, cpu("1")))], False),
        ("1", [demand("a", PodSet(2, cpu("1"))), demand("b", PodSet(0, cpu("1")), PodSet(1, cpu("1")))], True),
        ("-5", [demand("web", PodSet(1, cpu("1")), PodSet(2, cpu("1")))], True),
        ("-5", [demand("web", PodSet(2, cpu("1")), PodSet(2, cpu("1")))], True),
        ("0", [demand("web", PodSet(0, cpu("1")))], True),
        ("0", [demand("web", None)], True),
    ],
)
def test_what_stays_has_to_fit(free: str, demands: list[Demand], *, fits: bool) -> None:
    """All of it together, without what the same objects hold already; a quota passed long ago stops no retreat."""
    assert (said(quota(requests_cpu=free), *demands) == []) is fits


@pytest.mark.parametrize(
    ("free", "may_shrink", "severities"),
    [
        ("2", True, []),
        ("1", True, ["warning"]),
        ("1", False, ["warning"]),
        ("0.5", True, ["warning"]),
        ("0.5", False, ["error"]),
    ],
)
def test_a_surge_may_wait_its_turn(free: str, *, may_shrink: bool, severities: list[str]) -> None:
    """Unless no pod may go before a new one is there, and there is no room for a single one."""
    one = demand("web", PodSet(3, cpu("1")), PodSet(3, cpu("1")), surge=2, may_shrink=may_shrink)
    assert [severity for severity, _, _ in said(quota(requests_cpu=free), one)] == severities


def test_old_pods_are_there_beside_the_surge() -> None:
    """Where a roll-out ends with less than it began with, its beginning is its height."""
    shrinking = demand("web", PodSet(1, cpu("1")), PodSet(3, cpu("1")), surge=1)
    assert said(quota(requests_cpu="1"), shrinking) == []
    assert [severity for severity, _, _ in said(quota(requests_cpu="0"), shrinking)] == ["warning"]


def test_those_that_take_most_are_named() -> None:
    """Three of them, the largest first, each with its part, what all take and what is left."""
    demands = [demand(name, PodSet(count, cpu("500m"))) for name, count in zip("abcd", (1, 4, 2, 3), strict=True)]
    found = said(quota(requests_cpu="1"), *demands)
    assert [name for _, name, _ in found] == ["b", "d", "c"]
    assert found[0][2] == (
        "the deployment takes 5 more requests.cpu in the end, 2 of it here; ResourceQuota tight has 1 left"
    )


def test_objects_count_beside_pods() -> None:
    """Services and claims by their number and storage."""
    one = demand("db", None, objects={"count/services": Decimal(1), "requests.storage": Decimal(1024**3)})
    found = said(quota(**{"count/services": "0", "requests.storage": str(2 * 1024**3)}), one)
    assert [message for _, _, message in found] == [
        "the deployment takes 1 more count/services in the end, 1 of it here; ResourceQuota tight has 0 left"
    ]


def test_a_scoped_quota_counts_pods_that_fall_under_it() -> None:
    """And no objects."""
    scoped = Quota("high", {"pods": Decimal(0), "services": Decimal(0)}, (("PriorityClass", "In", ("high",)),))
    objects = {"services": Decimal(1)}
    assert said(scoped, demand("low", PodSet(1, cpu("1")), objects=objects)) == []
    (found,) = said(scoped, demand("web", PodSet(1, cpu("1", priorityClassName="high")), objects=objects))
    assert found[1] == "web"
    assert Quota("odd", {}, (("VolumeAttributesClass", "Exists", ()),)).counts({}) is None


def test_a_live_quota_is_read() -> None:
    """What is left is what its status says; one that nobody counted yet limits nothing."""
    live = {
        "metadata": {"name": "tight"},
        "spec": {
            "scopes": ["NotTerminating"],
            "scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["a"]}]},
        },
        "status": {"hard": {"pods": "4", "requests.cpu": "2"}, "used": {"requests.cpu": "1500m"}},
    }
    assert quota_of(live) == Quota(
        "tight",
        {"pods": Decimal(4), "requests.cpu": Decimal("0.5")},
        (("NotTerminating", "Exists", ()), ("PriorityClass", "In", ("a",))),
    )
    assert quota_of({"metadata": {"name": "new"}, "spec": {"hard": {"pods": "1"}}}).free == {}
