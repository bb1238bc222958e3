"""Finding what -f names."""

import io
from pathlib import Path

import pytest

from fairlead_cli.errors import ManifestInvalid
from fairlead_cli.manifest_files import MAX_INPUT_CHARACTERS, read_files


def names(*given: str) -> list[str]:
    """Return the names of the files found."""
    return [name for name, _ in read_files(given, io.StringIO("in"))]


def test_folders_are_read_with_all_below_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other files than manifests are left alone; names stay as the user wrote them."""
    for name in ("b/z.yml", "b/a.json", "a.yaml", "README.md", "c/.x.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    monkeypatch.chdir(tmp_path)
    assert names(".") == ["./a.yaml", "./b/a.json", "./b/z.yml", "./c/.x.yaml"]
    assert names("b", "a.yaml", "./b/../a.yaml") == ["b/a.json", "b/z.yml", "a.yaml"]


def test_standard_input_is_read_once() -> None:
    """The second time it would be empty."""
    assert list(read_files(["-", "-"], io.StringIO("in"))) == [("<stdin>", "in")]


def test_byte_order_marks_are_not_content(tmp_path: Path) -> None:
    """Some editors write them."""
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfa: 1")
    assert list(read_files([str(tmp_path)], io.StringIO())) == [(str(tmp_path / "a.yaml"), "a: 1")]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Missing, empty, not text."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "b.yaml").write_bytes(b"a: \xff")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "a.yaml").symlink_to(tmp_path / "nothing")
    for name, said in (
        ("nothing", "no such file or folder"),
        ("empty", "holds no .yaml, .yml, .json file"),
        ("b.yaml", "byte 3 is not UTF-8"),
    ):
        with pytest.raises(ManifestInvalid, match=said) as caught:
            names(str(tmp_path / name))
        assert str(caught.value).startswith(str(tmp_path / name))
    with pytest.raises(ManifestInvalid, match="cannot be read: No such file"):
        names(str(tmp_path / "links"))


def test_too_much_input_is_refused() -> None:
    """Before it is parsed."""
    with pytest.raises(ManifestInvalid, match="<stdin>: all input together has more than"):
        list(read_files(["-"], io.StringIO("x" * (MAX_INPUT_CHARACTERS + 1))))
