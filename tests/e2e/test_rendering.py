"""Kustomizations and charts as `fairlead deploy` reads them, rendered by the real programs; no cluster is needed."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from fairlead_cli.content import read_content
from fairlead_cli.errors import ProgramFailed
from fairlead_cli.manifests import Located, read_manifests
from fairlead_cli.rendering import ChartOptions
from tests.cluster.binaries import binary

CHART = {
    "Chart.yaml": "apiVersion: v2\nname: shop\nversion: 1.0.0\n",
    "values.yaml": "color: none\nname: web\n",
    "crds/color.yaml": (
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: colors.example.com}\n"
        "spec: {group: example.com, scope: Cluster, names: {kind: Color, plural: colors}, versions: []}\n"
    ),
    "templates/web.yaml": (
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-{{ .Values.name }}\n"
        "data:\n  color: {{ .Values.color }}\n  namespace: {{ .Release.Namespace }}\n"
        "  version: {{ .Capabilities.KubeVersion.Version }}\n"
    ),
    "templates/color.yaml": "apiVersion: example.com/v1\nkind: Color\nmetadata: {name: red}\n",
    "templates/hook.yaml": (
        "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: migrate\n  annotations:\n    helm.sh/hook: pre-install\n"
    ),
    "templates/tests/test.yaml": (
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: test\n  annotations:\n    helm.sh/hook: test\n"
    ),
}


@pytest.fixture(scope="module")
def programs() -> tuple[Path, Path]:
    """Return helm and kubectl, built first, which may take as long as it takes."""
    return binary("helm"), binary("kubectl")


@pytest.fixture(scope="module")
def kustomize() -> Path:
    """Return kustomize, which only some of these have on their PATH."""
    return binary("kustomize")


@pytest.fixture(params=["kubectl kustomize", "kustomize build"])
def builder(request: pytest.FixtureRequest, workplace: Path, kustomize: Path) -> str:
    """Return the command that builds kustomizations: kustomize, where it is there, before kubectl's."""
    if request.param == "kustomize build":
        (workplace / "bin" / "kustomize").symlink_to(kustomize)
    return str(request.param)


@pytest.fixture(autouse=True)
def workplace(programs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder to work in, with the programs on the PATH and helm's own folders beside it."""
    (tmp_path / "bin").mkdir()
    for program in programs:
        (tmp_path / "bin" / program.name).symlink_to(program)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}")
    for folder in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"HELM_{folder}_HOME", str(tmp_path / "helm"))
    monkeypatch.chdir(tmp_path)
    write({f"chart/{name}": text for name, text in CHART.items()})
    return tmp_path


def write(files: dict[str, str]) -> None:
    """Write files below the working directory."""
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)


def located(name: str, options: ChartOptions, said: list[str]) -> dict[str, Located]:
    """Read what a name means, by the object's reference."""
    texts = read_content([name], io.StringIO(), options, said.append)
    return {str(one.ref): one for one in read_manifests(texts, "shop")}


def test_a_chart_is_rendered_by_helm() -> None:
    """Release, namespace, values, CRDs and hooks count; tests are left out; objects know their template."""
    write({"staging.yaml": "color: red\n"})
    said: list[str] = []
    found = located("./chart", ChartOptions("blue", "shop", ("staging.yaml",), ("name=site",), "v1.30.9-eks-1"), said)
    assert {ref: str(one.origin) for ref, one in found.items()} == {
        "CustomResourceDefinition.apiextensions.k8s.io colors.example.com": "./chart/crds/color.yaml",
        "ConfigMap shop/blue-site": "./chart/templates/web.yaml",
        "Color.example.com red": "./chart/templates/color.yaml",
        "Job shop/migrate": "./chart/templates/hook.yaml",
    }
    assert found["ConfigMap shop/blue-site"].manifest["data"] == {
        "color": "red",
        "namespace": "shop",
        "version": "v1.30.9-eks-1",
    }
    assert said == []


def test_what_helm_says_is_shown() -> None:
    """A template that fails, with its place."""
    write({"chart/templates/broken.yaml": '{{ required "say which color" .Values.nothing }}\n'})
    with pytest.raises(ProgramFailed, match=r"'helm template shop chart' ended(.|\n)*broken\.yaml(.|\n)*which color"):
        located("chart", ChartOptions("shop", "shop"), [])


@pytest.mark.usefixtures("builder")
def test_a_kustomization_is_built() -> None:
    """With what it adds to its bases; the file that makes it is the origin."""
    web = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\ndata: {color: none}\n"
    overlay = (
        "resources: [../../base]\nnamePrefix: blue-\n"
        "patches:\n- patch: |-\n    {apiVersion: v1, kind: ConfigMap, metadata: {name: web}, data: {color: red}}\n"
    )
    write({"base/web.yaml": web, "base/kustomization.yaml": "resources: [web.yaml]\n"})
    write({"overlays/staging/kustomization.yaml": overlay})
    [(ref, one)] = located("overlays/staging", ChartOptions("shop", "shop"), []).items()
    assert (ref, str(one.origin)) == ("ConfigMap shop/blue-web", "overlays/staging/kustomization.yaml")
    assert one.manifest["data"] == {"color": "red"}


def test_what_the_builder_says_is_shown(builder: str) -> None:
    """A base that is not there."""
    write({"broken/kustomization.yaml": "resources: [nothing.yaml]\n"})
    with pytest.raises(ProgramFailed, match=rf"'{builder} broken' ended(.|\n)*nothing\.yaml"):
        located("broken", ChartOptions("shop", "shop"), [])
