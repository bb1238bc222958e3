"""Finding and reading manifests."""

import io
from pathlib import Path

import pytest

from fairlead_cli.errors import ManifestInvalid
from fairlead_cli.manifest_files import find_files, read_file


def test_folders_are_read_with_all_below_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other files than manifests are left alone; names stay as the user wrote them."""
    for name in ("b/z.yml", "b/a.json", "a.yaml", "README.md", "c/.x.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    monkeypatch.chdir(tmp_path)
    assert find_files(".") == ["./a.yaml", "./b/a.json", "./b/z.yml", "./c/.x.yaml"]
    assert find_files("./b/../a.yaml") == ["./b/../a.yaml"]
    assert find_files("-") == ["-"]


def test_byte_order_marks_are_not_content(tmp_path: Path) -> None:
    """Some editors write them."""
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_file(str(tmp_path / "a.yaml"), io.StringIO(), 100).text == "a: 1"
    assert read_file("-", io.StringIO("in"), 100) == ("<stdin>", "in", False)


def test_no_more_is_read_than_shows_that_it_is_too_much() -> None:
    """A device or a pipe may never end."""
    assert read_file("-", io.StringIO("x" * 100), 10).text == "x" * 11


@pytest.mark.parametrize(
    ("file", "what"),
    [("Chart.yaml", "a Helm chart"), ("kustomization.yaml", "a kustomization"), ("Kustomization", "a kustomization")],
)
def test_what_must_be_rendered_is_not_read_as_it_stands(file: str, what: str, tmp_path: Path) -> None:
    """Half of a chart among the manifests of a folder would be nonsense; the error says what to name."""
    (tmp_path / "a.yaml").write_text("x")
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / file).write_text("x")
    with pytest.raises(ManifestInvalid, match=f"holds {what}; name it by itself: -f {tmp_path}/web"):
        find_files(str(tmp_path))


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Missing, empty, not text."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "b.yaml").write_bytes(b"a: \xff")
    for name, said in (("nothing", "no such file or folder"), ("empty", "holds no .yaml, .yml, .json file")):
        with pytest.raises(ManifestInvalid, match=said) as caught:
            find_files(str(tmp_path / name))
        assert str(caught.value).startswith(str(tmp_path / name))
    for name, said in (("b.yaml", "byte 3 is not UTF-8"), ("nothing", "cannot be read: No such file")):
        with pytest.raises(ManifestInvalid, match=said):
            read_file(str(tmp_path / name), io.StringIO(), 100)
