"""What a pod counts for in a quota, by Kubernetes' own rules."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from fairlead_agent.apply.pod_usage import added, amount_of, is_in_scope, text_of, usage_of_pod


@pytest.mark.parametrize(
    ("quantity", "amount", "text"),
    [
        ("1", "1", "1"),
        (2, "2", "2"),
        ("100m", "0.1", "100m"),
        ("1.5", "1.5", "1500m"),
        ("128Mi", "134217728", "128Mi"),
        ("1Gi", "1073741824", "1Gi"),
        ("1G", "1000000000", "1000000000"),
        ("12e6", "12000000", "12000000"),
        ("1Ei", "1152921504606846976", "1048576Ti"),
        ("0", "0", "0"),
        ("1e9999999", str(2**63 - 1), str(2**63 - 1)),
        ("-9e9999999", str(1 - 2**63), str(1 - 2**63)),
        ("9" * 40 + "Ei", str(2**63 - 1), str(2**63 - 1)),
    ],
)
def test_quantities_are_read_and_written(quantity: object, amount: str, text: str) -> None:
    """With every suffix, and no larger than the API server has them."""
    assert amount_of(quantity) == Decimal(amount)
    assert text_of(amount_of(quantity)) == text


@pytest.mark.parametrize("quantity", ["", "many", "1.2.3", "1 Gi", None, {}])
def test_what_is_no_quantity_counts_for_nothing(quantity: object) -> None:
    """The API server's dry-run has the words for it."""
    assert amount_of(quantity) == 0


def container(cpu: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a container that asks for CPU."""
    return {"name": "x", "resources": {"requests": {"cpu": cpu}}, **more}


def sidecar(cpu: str) -> dict[str, Any]:
    """Return an init container that goes on running."""
    return container(cpu, restartPolicy="Always")


@pytest.mark.parametrize(
    ("spec", "cpu"),
    [
        ({"containers": [container("1"), container("500m")]}, "1.5"),
        ({"containers": [container("1")], "initContainers": [container("3"), container("2")]}, "3"),
        ({"containers": [container("2")], "initContainers": [container("1")]}, "2"),
        # The sidecar runs beside the containers, and beside what is initialised after it.
        ({"containers": [container("1")], "initContainers": [sidecar("1")]}, "2"),
        ({"containers": [container("1")], "initContainers": [sidecar("1"), container("3")]}, "4"),
        ({"containers": [container("1")], "initContainers": [container("3"), sidecar("1")]}, "3"),
        ({"containers": [container("1")], "initContainers": [sidecar("1"), container("2"), sidecar("4")]}, "6"),
        ({"containers": [container("1")], "overhead": {"cpu": "250m"}}, "1.25"),
        ({"containers": [container("1")], "initContainers": [container("3")], "overhead": {"cpu": "1"}}, "4"),
        ({"containers": [container("1")], "resources": {"requests": {"cpu": "5"}}}, "5"),
        ({"containers": [{"resources": {"limits": {"cpu": "2"}}}]}, "2"),
        ({"containers": [{"resources": {"limits": {"cpu": "2"}, "requests": {"cpu": "1"}}}]}, "1"),
    ],
)
def test_effective_request(spec: dict[str, Any], cpu: str) -> None:
    """The larger of start and run, sidecars in both, what the pod says as a whole instead, overhead on top."""
    counted = usage_of_pod(spec)
    assert counted["requests.cpu"] == counted["cpu"] == Decimal(cpu)


def test_every_name_that_a_quota_may_have() -> None:
    """Requests also without a prefix, extended resources only with one."""
    resources = {
        "requests": {"memory": "1Gi", "nvidia.com/gpu": "2", "hugepages-2Mi": "4Mi"},
        "limits": {"memory": "2Gi", "ephemeral-storage": "1Gi"},
    }
    gi = Decimal(1024**3)
    assert usage_of_pod({"containers": [{"resources": resources}]}) == {
        "pods": 1,
        "count/pods": 1,
        "memory": gi,
        "requests.memory": gi,
        "limits.memory": 2 * gi,
        "ephemeral-storage": gi,
        "requests.ephemeral-storage": gi,
        "limits.ephemeral-storage": gi,
        "requests.nvidia.com/gpu": 2,
        "hugepages-2Mi": 4 * 1024**2,
        "requests.hugepages-2Mi": 4 * 1024**2,
    }


@pytest.mark.parametrize("spec", [{}, {"containers": "none"}, {"containers": [7]}, {"containers": [{"resources": []}]}])
def test_wrong_shapes_count_as_a_bare_pod(spec: dict[str, Any]) -> None:
    """Whatever is wrong with them is refused by their dry-run."""
    assert usage_of_pod(spec) == {"pods": 1, "count/pods": 1}


def test_overhead_is_no_limit_where_there_is_none() -> None:
    """A pod without a limit has none with overhead either."""
    assert "limits.cpu" not in usage_of_pod({"containers": [container("1")], "overhead": {"cpu": "1"}})


BURSTABLE, BARE = {"containers": [container("1")]}, {"containers": [{"name": "x"}]}


@pytest.mark.parametrize(
    ("scope", "operator", "values", "spec", "verdict"),
    [
        ("Terminating", "Exists", [], {"activeDeadlineSeconds": 0}, True),
        ("Terminating", "Exists", [], {}, False),
        ("NotTerminating", "Exists", [], {}, True),
        ("BestEffort", "Exists", [], BARE, True),
        ("BestEffort", "Exists", [], BURSTABLE, False),
        ("NotBestEffort", "Exists", [], BURSTABLE, True),
        ("PriorityClass", "In", ["high"], {"priorityClassName": "high"}, True),
        ("PriorityClass", "In", ["high"], {}, False),
        ("PriorityClass", "NotIn", ["high"], {"priorityClassName": "low"}, True),
        ("PriorityClass", "Exists", [], {"priorityClassName": "low"}, True),
        ("PriorityClass", "DoesNotExist", [], {}, True),
        ("CrossNamespacePodAffinity", "Exists", [], {}, None),
    ],
)
def test_scopes(scope: str, operator: str, values: list[str], spec: dict[str, Any], *, verdict: bool | None) -> None:
    """One that is not known is not guessed."""
    assert is_in_scope(scope, operator, values, spec) is verdict


def test_amounts_add_up() -> None:
    """Each as often as asked."""
    one, two = {"pods": Decimal(1)}, {"pods": Decimal(2), "cpu": Decimal(1)}
    assert added(one, two, times=3) == {"pods": 9, "cpu": 3}
