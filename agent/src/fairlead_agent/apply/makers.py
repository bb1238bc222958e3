"""
Who made a live object that is not this environment's: which deployer keeps it, and which field managers it writes as.

Told by the marks each deployer leaves. A controller that keeps an object (Argo CD, Flux) would undo what another one
writes, so the operator's policy lists whose objects may be taken over. Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

from fairlead_agent.kube.client import FIELD_MANAGER

_MANAGED_BY = "app.kubernetes.io/managed-by"


class Maker(StrEnum):
    """What keeps an object, in the words of the policy."""

    KUBECTL = "kubectl"
    """Made by hand; nothing will write it again of its own accord."""
    HELM = "helm"
    ARGOCD = "argocd"
    FLUX = "flux"
    OTHER = "other"


_MANAGERS: Mapping[Maker, tuple[str, ...]] = {
    Maker.KUBECTL: ("kubectl",),
    Maker.HELM: ("helm", "Helm"),
    Maker.ARGOCD: ("argocd-controller", "argocd-application-controller", "argocd-server"),
    Maker.FLUX: ("kustomize-controller", "helm-controller", "gotk-kustomize-controller"),
    Maker.OTHER: (),
}
"""Beginnings of the names of each maker's field managers (`kubectl-client-side-apply`, `kubectl-create`, ...)."""

_NEUTRAL = frozenset({FIELD_MANAGER, "kube-apiserver", "kube-controller-manager", "kube-scheduler"})
"""Write into everybody's objects, and keep none; ours is there when a killed attempt had begun to take over."""


def maker_of(live: Mapping[str, Any]) -> Maker:
    """
    Return what keeps a live object.

    Source: https://helm.sh/docs/chart_best_practices/labels/,
        https://argo-cd.readthedocs.io/en/stable/user-guide/resource_tracking/,
        https://fluxcd.io/flux/components/kustomize/kustomizations/#inventory
    """
    metadata = live["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    if any("toolkit.fluxcd.io/" in name for name in (*labels, *annotations)):
        return Maker.FLUX
    if any(name.startswith("argocd.argoproj.io/") for name in (*labels, *annotations)):
        return Maker.ARGOCD
    if "meta.helm.sh/release-name" in annotations or labels.get(_MANAGED_BY) == "Helm":
        return Maker.HELM
    if labels.get(_MANAGED_BY) or metadata.get("ownerReferences"):
        return Maker.OTHER
    is_by_hand = all(is_manager_of(Maker.KUBECTL, manager) or manager in _NEUTRAL for manager in _managers(live))
    return Maker.KUBECTL if is_by_hand else Maker.OTHER


def managers_of(maker: Maker) -> tuple[str, ...]:
    """Return the beginnings of the names of the field managers that a maker writes as."""
    return _MANAGERS[maker]


def is_manager_of(maker: Maker, manager: str) -> bool:
    """Tell whether a field manager is one that a maker writes as."""
    return manager.startswith(_MANAGERS[maker])


def _managers(live: Mapping[str, Any]) -> Iterator[str]:
    """Yield the managers of the object's own fields; what writes its status keeps nothing."""
    for entry in live["metadata"].get("managedFields") or []:
        if entry.get("manager") and not entry.get("subresource"):
            yield str(entry["manager"])
