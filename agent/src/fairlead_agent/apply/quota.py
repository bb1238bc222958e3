"""
Whether what a deployment takes fits into a ResourceQuota, in the end and while it is rolled out. Pure: no I/O.

What is pruned makes no room: it goes when everything else is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from fairlead_agent.apply.demand import Demand, PodSet, less
from fairlead_agent.apply.findings import Finding, Severity
from fairlead_agent.apply.pod_usage import Amounts, added, amount_of, is_in_scope, text_of
from fairlead_shared.errors import ErrorCode

_BLAMED = 3
"""Objects named for one resource: those that take most of it."""


@dataclass(frozen=True, slots=True)
class Quota:
    """One ResourceQuota, as far as it is examined."""

    name: str
    free: Amounts
    """What is left of each resource that it limits."""
    scopes: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    """(scope, operator, values); a pod counts that falls under all of them, and with any, nothing but pods counts."""

    def counts(self, spec: Mapping[str, Any]) -> bool | None:
        """Tell whether a pod counts; None where a scope is not known."""
        verdicts = [is_in_scope(scope, operator, values, spec) for scope, operator, values in self.scopes]
        return None if None in verdicts else all(verdicts)


def quota_of(live: Mapping[str, Any]) -> Quota:
    """Return what a live ResourceQuota still gives."""
    spec, status = live.get("spec") or {}, live.get("status") or {}
    hard, used = status.get("hard") or {}, status.get("used") or {}
    selected = (spec.get("scopeSelector") or {}).get("matchExpressions") or []
    return Quota(
        name=live["metadata"]["name"],
        free={name: amount_of(amount) - amount_of(used.get(name, 0)) for name, amount in hard.items()},
        scopes=(
            *((str(scope), "Exists", ()) for scope in spec.get("scopes") or []),
            *((str(one["scopeName"]), str(one["operator"]), tuple(one.get("values") or ())) for one in selected),
        ),
    )


def examine(quota: Quota, demands: Sequence[Demand]) -> Iterator[Finding]:
    """Yield what does not fit: errors for what stays, and for a roll-out that could not begin; else warnings."""
    steady = {place: _steady(quota, demand) for place, demand in enumerate(demands)}
    surges = {place: _surge(quota, demand) for place, demand in enumerate(demands)}
    for name, free in sorted(quota.free.items()):
        wanted = sum((one.get(name, Decimal(0)) for one in steady.values()), Decimal(0))
        if wanted > max(free, Decimal(0)):
            yield from _blame(quota, name, demands, steady, wanted, "in the end", lambda _: "error")
            continue
        height = wanted + sum((one.get(name, Decimal(0)) for one in surges.values()), Decimal(0))
        if height > free and any(one.get(name) for one in surges.values()):
            room = free - wanted

            def severity(demand: Demand, name: str = name, room: Decimal = room) -> Severity:
                one = (demand.wanted.usage if demand.wanted else {}).get(name, Decimal(0))
                return "warning" if demand.may_shrink or one <= room else "error"

            yield from _blame(quota, name, demands, surges, height, "while it is rolled out", severity)


def _steady(quota: Quota, demand: Demand) -> Amounts:
    more = less(_usage(quota, demand.wanted), _usage(quota, demand.held))
    return more if quota.scopes else added(demand.objects, more)


def _surge(quota: Quota, demand: Demand) -> Amounts:
    """Return what a roll-out takes for a while, beyond what stays: old pods are there beside new ones."""
    if not demand.surge or demand.wanted is None:
        return {}
    shrinking = less(_usage(quota, demand.held), _usage(quota, demand.wanted))
    beside = _usage(quota, PodSet(demand.surge, demand.wanted.spec))
    return {name: amount + max(shrinking.get(name, Decimal(0)), Decimal(0)) for name, amount in beside.items()}


def _usage(quota: Quota, pods: PodSet | None) -> Amounts:
    if pods is None or not pods.count or not quota.counts(pods.spec):
        return {}
    return added(pods.usage, times=pods.count)


def _blame(
    quota: Quota,
    name: str,
    demands: Sequence[Demand],
    takes: Mapping[int, Amounts],
    wanted: Decimal,
    when: str,
    severity: Callable[[Demand], Severity],
) -> Iterator[Finding]:
    """Name the objects that take most of a resource, each by a finding, so that each one's file is told."""
    takers = sorted(
        (place for place, one in takes.items() if one.get(name, Decimal(0)) > 0),
        key=lambda place: (-takes[place][name], str(demands[place].ref)),
    )
    for place in takers[:_BLAMED]:
        free = text_of(max(quota.free[name], Decimal(0)))
        of_all = f"the deployment takes {text_of(wanted)} more {name} {when}, {text_of(takes[place][name])} of it here"
        message = f"{of_all}; ResourceQuota {quota.name} has {free} left"
        yield Finding(ErrorCode.INVALID_OBJECT, message, demands[place].ref, severity=severity(demands[place]))
