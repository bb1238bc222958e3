"""What is run for kustomizations and charts, and how the answer is read; the real programs are in tests/e2e."""

from pathlib import Path

import pytest

from fairlead_cli.errors import ManifestInvalid, ProgramFailed, ProgramMissing
from fairlead_cli.manifest_files import Text
from fairlead_cli.rendering import (
    ChartOptions,
    build_kustomization,
    is_chart,
    kustomization_in,
    render_chart,
    split_chart,
)
from tests.unit.cli.test_programs import program

OPTIONS = ChartOptions("blue", "shop", ("a.yaml", "b.yaml"), ("x=1",), "v1.37.0")
RENDERED = """---
# Source: shop/crds/crd.yaml
kind: CustomResourceDefinition
---
kind: CustomResourceDefinition
---
# Source: shop/templates/web.yaml
kind: Deployment
---
# Source: shop/charts/db/templates/job.yaml
kind: Job
metadata:
  name: migrate
  annotations:
    helm.sh/hook: pre-upgrade
"""


@pytest.fixture
def chart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder with a chart, beside which programs may be put into `bin`."""
    monkeypatch.chdir(tmp_path)
    Path("chart").mkdir()
    Path("chart", "Chart.yaml").write_text("name: shop\n")
    return "chart"


@pytest.fixture
def overlay(chart: str) -> str:
    """A folder with a kustomization."""
    Path("overlay").mkdir()
    Path("overlay", "kustomization.yml").write_text("resources: []\n")
    return "overlay"


def variables() -> dict[str, str]:
    """Return an environment whose programs are those of `bin`, before the system's."""
    return {"PATH": f"{Path.cwd()}/bin:/usr/bin:/bin", "FAIRLEAD_TOKEN": "secret"}


def test_what_is_rendered_is_known_by_its_files(chart: str, overlay: str) -> None:
    """A chart may be packed."""
    assert (is_chart(Path(chart)), is_chart(Path(overlay))) == (True, False)
    assert kustomization_in(Path(overlay)) == Path("overlay/kustomization.yml")
    assert kustomization_in(Path(chart)) is None
    Path("shop-1.0.tgz").write_bytes(b"")
    assert is_chart(Path("shop-1.0.tgz"))


@pytest.mark.parametrize(("name", "verb"), [("kustomize", "build"), ("kubectl", "kustomize")])
def test_kustomizations_are_built_by_whichever_is_there(name: str, verb: str, overlay: str) -> None:
    """The folder can be taken for no option; remarks are repeated."""
    program(Path("bin", name), 'echo "$@" ${FAIRLEAD_TOKEN-none}; echo deprecated >&2')
    said: list[str] = []
    [text] = build_kustomization(overlay, variables(), 1000, said.append)
    assert text == Text("overlay/kustomization.yml", f"{verb} ./overlay none\n", is_rendered=True)
    assert said == ["deprecated"]


def test_a_chart_is_rendered_with_values_and_without_tests(chart: str) -> None:
    """Each object by its template, hooks as well."""
    program(Path("bin", "helm"), f'echo "$@" > argv\ncat <<END\n{RENDERED}END')
    said: list[str] = []
    texts = list(render_chart(chart, OPTIONS, variables(), 10_000, said.append))
    assert [(text.name, text.text.count("kind:")) for text in texts] == [
        ("chart/crds/crd.yaml", 2),
        ("chart/templates/web.yaml", 1),
        ("chart/charts/db/templates/job.yaml", 1),
    ]
    assert said == []
    assert Path("argv").read_text().split() == [
        "template",
        *(
            "--namespace=shop",
            "--include-crds",
            "--skip-tests",
            "--kube-version=v1.37.0",
            "--values=a.yaml",
            "--values=b.yaml",
            "--set=x=1",
        ),
        *("--", "blue", "./chart"),
    ]


def test_without_the_program_the_error_says_what_to_do(chart: str, overlay: str) -> None:
    """Install it, or render elsewhere."""
    nothing = {"PATH": ""}
    with pytest.raises(ProgramMissing, match=r"no helm on the PATH.*helm template blue chart \| fairlead deploy -f -"):
        list(render_chart(chart, OPTIONS, nothing, 1000, print))
    with pytest.raises(ProgramMissing, match=r"no kustomize or kubectl.*kustomize build overlay \| fairlead"):
        list(build_kustomization(overlay, nothing, 1000, print))


def test_failures_name_the_command_without_its_values(chart: str) -> None:
    """A value of --set may be secret."""
    program(Path("bin", "helm"), "echo missing dependency >&2; exit 1")
    with pytest.raises(ProgramFailed) as caught:
        list(render_chart(chart, OPTIONS, variables(), 1000, print))
    assert str(caught.value) == "'helm template blue chart' ended with exit code 1\n  missing dependency"


def test_what_is_no_text_is_refused(chart: str) -> None:
    """Manifests are UTF-8."""
    program(Path("bin", "helm"), r"printf '\377'")
    with pytest.raises(ManifestInvalid, match="byte 0 of what it renders is not UTF-8"):
        list(render_chart(chart, OPTIONS, variables(), 1000, print))


def test_a_chart_that_renders_without_sources_is_one_text() -> None:
    """A template may render nothing, or a future helm may not say where from."""
    assert list(split_chart("kind: A\n", "c")) == [Text("c", "kind: A\n", is_rendered=True)]
