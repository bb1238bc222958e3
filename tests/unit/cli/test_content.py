"""Deciding what each name of -f is, and keeping all of them below one limit."""

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead_cli.content import MAX_INPUT_CHARACTERS, chart_options, read_content
from fairlead_cli.errors import ChartMissing, ManifestInvalid
from fairlead_cli.manifest_files import Text
from fairlead_cli.options import ContentNames
from fairlead_cli.rendering import ChartOptions

OPTIONS = ChartOptions("shop", "shop")


def names(*given: str, standard_input: str = "in") -> list[str]:
    """Return the names of the texts read."""
    return [text.name for text in read_content(given, io.StringIO(standard_input), OPTIONS, print)]


def test_each_name_is_read_by_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File, folder, standard input, URL, kustomization, chart."""
    monkeypatch.chdir(tmp_path)
    for file in ("a.yaml", "b/c.yaml", "over/kustomization.yaml", "over/x.yaml", "chart/Chart.yaml", "packed.tgz"):
        Path(file).parent.mkdir(exist_ok=True)
        Path(file).write_text("x")

    def rendered(name: str, *_rest: object) -> Iterator[Text]:
        yield Text(f"rendered {name}", "x")

    monkeypatch.setattr("fairlead_cli.content.build_kustomization", rendered)
    monkeypatch.setattr("fairlead_cli.content.render_chart", rendered)
    monkeypatch.setattr("fairlead_cli.content.fetch", lambda *_: "x")
    assert names("a.yaml", "b", "-", "https://h/x.yaml?t=1", "over", "chart", "packed.tgz") == [
        "a.yaml",
        "b/c.yaml",
        "<stdin>",
        "https://h/x.yaml",
        "rendered over",
        "rendered chart",
        "rendered packed.tgz",
    ]


def test_what_is_named_twice_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whatever name; standard input would be empty the second time."""
    monkeypatch.chdir(tmp_path)
    Path("b").mkdir()
    Path("b", "a.yaml").write_text("x")
    assert names("b", "b/a.yaml", "./b/../b/a.yaml", "-", "-") == ["b/a.yaml", "<stdin>"]


def test_too_much_input_is_refused(tmp_path: Path) -> None:
    """Before it is parsed, all of it counted together."""
    (tmp_path / "a.yaml").write_text("x" * 10)
    with pytest.raises(ManifestInvalid, match="<stdin>: all input together has more than"):
        names(str(tmp_path / "a.yaml"), "-", standard_input="x" * (MAX_INPUT_CHARACTERS - 9))


def test_options_of_charts_are_for_charts(tmp_path: Path) -> None:
    """The release is the application's unless named; without a chart they are a mistake."""
    (tmp_path / "Chart.yaml").write_text("x")
    chart = str(tmp_path)
    asked: list[str] = []

    def version() -> str:
        asked.append("version")
        return "v1.37.0"

    assert chart_options(ContentNames(("k8s",)), "shop", "ns", version) == ChartOptions("shop", "ns")
    assert asked == []
    assert chart_options(ContentNames((chart,)), "shop", "ns", version) == ChartOptions(
        "shop", "ns", kubernetes_version="v1.37.0"
    )
    given = ContentNames((os.devnull, chart), ("v.yaml",), ("a=b",), "blue")
    assert chart_options(given, "shop", "ns", str) == ChartOptions("blue", "ns", ("v.yaml",), ("a=b",))
    with pytest.raises(ChartMissing, match=r"no Chart\.yaml in k8s, -"):
        chart_options(ContentNames(("k8s", "-"), settings=("a=b",)), "shop", "ns", version)
