"""Makers: told by the marks each deployer leaves, and by the field managers where there are none."""

from typing import Any

import pytest

from fairlead_agent.apply.makers import Maker, is_manager_of, maker_of


def live(*managers: str, **metadata: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a live object as far as its maker shows."""
    fields = [{"manager": manager, "operation": "Update"} for manager in managers]
    return {"metadata": {"managedFields": fields, **metadata}}


@pytest.mark.parametrize(
    ("found", "maker"),
    [
        (live("kubectl-client-side-apply", "kubectl-edit"), Maker.KUBECTL),
        (live(), Maker.KUBECTL),
        (live("kubectl-create", "kube-controller-manager"), Maker.KUBECTL),
        (live("fairlead"), Maker.KUBECTL),
        (live("kubectl-create", "operator"), Maker.OTHER),
        (live("kubectl", ownerReferences=[{"kind": "ReplicaSet"}]), Maker.OTHER),
        (live("kubectl", labels={"app.kubernetes.io/managed-by": "thing"}), Maker.OTHER),
        (live("helm", labels={"app.kubernetes.io/managed-by": "Helm"}), Maker.HELM),
        (live("x", annotations={"meta.helm.sh/release-name": "r"}), Maker.HELM),
        (live("x", annotations={"argocd.argoproj.io/tracking-id": "a"}), Maker.ARGOCD),
        # Flux's helm-controller leaves Helm's marks as well: the controller is what would write again.
        (
            live("x", labels={"helm.toolkit.fluxcd.io/name": "a"}, annotations={"meta.helm.sh/release-name": "r"}),
            Maker.FLUX,
        ),
    ],
)
def test_the_marks_tell_who_keeps_an_object(found: dict[str, Any], maker: Maker) -> None:
    """What a controller keeps is never taken for an object made by hand."""
    assert maker_of(found) is maker


def test_who_writes_the_status_keeps_nothing() -> None:
    """A controller's status does not make the object the controller's."""
    found = live("kubectl-create")
    found["metadata"]["managedFields"].append({"manager": "operator", "operation": "Update", "subresource": "status"})
    assert maker_of(found) is Maker.KUBECTL


def test_a_maker_writes_under_several_names() -> None:
    """And nobody writes as `other`."""
    assert is_manager_of(Maker.KUBECTL, "kubectl-last-applied")
    assert is_manager_of(Maker.FLUX, "kustomize-controller")
    assert not is_manager_of(Maker.KUBECTL, "kube-controller-manager")
    assert not any(is_manager_of(Maker.OTHER, manager) for manager in ("other", "operator", ""))
