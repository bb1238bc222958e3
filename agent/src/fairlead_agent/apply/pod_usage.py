"""
What a pod counts for in a ResourceQuota: effective requests and limits, and the scopes it falls under. Pure: no I/O.

Source: https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers,
    https://kubernetes.io/docs/concepts/scheduling-eviction/pod-overhead/,
    https://kubernetes.io/docs/concepts/policy/resource-quotas/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

Amounts = dict[str, Decimal]
"""Resource → amount in its own unit: cores, bytes, pieces."""

_QUANTITY = re.compile(r"(?P<number>[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)(?P<suffix>[numkMGTPE]|[KMGTPE]i)?")
_FACTORS = {
    "": Decimal(1),
    "n": Decimal(10) ** -9,
    "u": Decimal(10) ** -6,
    "m": Decimal(10) ** -3,
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", start=1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}
_MOST = Decimal(2**63 - 1)
"""
Larger quantities are taken for this.

Source, of the factors as well: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""
_BARE = ("cpu", "memory", "ephemeral-storage")
"""Resources whose requests a quota may also name without `requests.`."""


def amount_of(quantity: object) -> Decimal:
    """Return a quantity as a number; 0 for what is none, which the API server refuses itself."""
    found = _QUANTITY.fullmatch(str(quantity))
    if found is None:
        return Decimal(0)
    try:
        number = _capped(Decimal(found["number"]))
    except InvalidOperation:
        return Decimal(0)
    return _capped(number * _FACTORS[found["suffix"] or ""])


def text_of(amount: Decimal) -> str:
    """Return a number as a person writes it: with a binary suffix where it is whole in one, else in full."""
    for suffix in ("Ti", "Gi", "Mi", "Ki"):
        if amount and amount % _FACTORS[suffix] == 0:
            return f"{amount // _FACTORS[suffix]}{suffix}"
    if amount != amount.to_integral_value():
        return f"{(amount * 1000).to_integral_value()}m"
    return f"{amount:f}".partition(".")[0]


def added(*many: Mapping[str, Decimal], times: int = 1) -> Amounts:
    """Return the sum of some amounts, each multiplied."""
    total: Amounts = {}
    for amounts in many:
        for name, amount in amounts.items():
            total[name] = total.get(name, Decimal(0)) + amount * times
    return total


def usage_of_pod(spec: Mapping[str, Any]) -> Amounts:
    """
    Return what one pod that is not done counts for, under each name that a quota may have for it.

    Args:
        spec: The pod's; of wrong shape, parts of it count for nothing.
    """
    requests, limits = _effective(spec, "requests"), _effective(spec, "limits")
    counted: Amounts = {"pods": Decimal(1), "count/pods": Decimal(1)}
    for name, amount in requests.items():
        counted[f"requests.{name}"] = amount
        if name in _BARE or name.startswith("hugepages-"):
            counted[name] = amount
    counted |= {f"limits.{name}": amount for name, amount in limits.items()}
    return counted


def is_in_scope(scope: str, operator: str, values: Iterable[str], spec: Mapping[str, Any]) -> bool | None:
    """
    Tell whether a pod falls under a scope of a quota.

    Returns: None where it is not known.
    Source: https://kubernetes.io/docs/concepts/policy/resource-quotas/#quota-scopes
    """
    match scope:
        case "Terminating":
            return spec.get("activeDeadlineSeconds") is not None
        case "NotTerminating":
            return spec.get("activeDeadlineSeconds") is None
        case "BestEffort":
            return _is_best_effort(spec)
        case "NotBestEffort":
            return not _is_best_effort(spec)
        case "PriorityClass":
            named = str(spec.get("priorityClassName") or "")
            return {
                "Exists": bool(named),
                "DoesNotExist": not named,
                "In": named in set(values),
                "NotIn": named not in set(values),
            }.get(operator)
        case _:
            return None


def _capped(amount: Decimal) -> Decimal:
    return max(-_MOST, min(amount, _MOST))


def _is_best_effort(spec: Mapping[str, Any]) -> bool:
    return not any(_effective(spec, field).get(name) for field in ("requests", "limits") for name in ("cpu", "memory"))


def _effective(spec: Mapping[str, Any], field: str) -> Amounts:
    """Return requests or limits of a whole pod, overhead included."""
    running: Amounts = {}
    """Sidecars that were started so far."""
    start: Amounts = {}
    for container in _mappings(spec.get("initContainers")):
        own = _of(container, field)
        if container.get("restartPolicy") == "Always":
            running = added(running, own)
            start = _most(start, running)
        else:
            start = _most(start, added(running, own))
    together = added(running, *(_of(container, field) for container in _mappings(spec.get("containers"))))
    # What the pod says as a whole holds in place of what its containers add up to.
    total = _most(start, together) | _of(spec, field)
    overhead = {name: amount_of(value) for name, value in _mapping(spec.get("overhead")).items()}
    if field == "limits":
        overhead = {name: amount for name, amount in overhead.items() if name in total}
    return added(total, overhead)


def _of(holder: Mapping[str, Any], field: str) -> Amounts:
    """Return what a container, or a pod itself, asks for; without a request, its limit is one."""
    resources = _mapping(holder.get("resources"))
    stated = {str(name): amount_of(value) for name, value in _mapping(resources.get(field)).items()}
    if field == "limits":
        return stated
    limits = {str(name): amount_of(value) for name, value in _mapping(resources.get("limits")).items()}
    return limits | stated


def _most(one: Amounts, other: Amounts) -> Amounts:
    return {name: max(one.get(name, Decimal(0)), other.get(name, Decimal(0))) for name in (*one, *other)}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list):
        yield from (item for item in value if isinstance(item, Mapping))
