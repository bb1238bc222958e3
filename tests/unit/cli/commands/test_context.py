"""`fairlead context`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from fairlead_cli.config import Context, read_stored, save
from tests.unit.cli.scripted_relay import TOKEN

Fairlead = Callable[..., Result]


@pytest.fixture(autouse=True)
def two_contexts(home: Path) -> None:
    """`one`, and `two`, which is current."""
    for name in ("one", "two"):
        save(home / "config.yaml", Context(f"https://{name}.example", TOKEN, "acme"), name)


def test_list_marks_the_current_one_and_shows_no_token(fairlead: Fairlead) -> None:
    """In no form."""
    lines = fairlead("context", "list").stdout.splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["-", "one", "https://one.example", "acme"],
        ["*", "two", "https://two.example", "acme"],
    ]
    for form in ("json", "yaml", "wide", "name"):
        assert TOKEN not in fairlead("context", "list", "-o", form).output


def test_show_is_the_one_in_use(fairlead: Fairlead, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless another is named."""
    assert fairlead("context", "show", "-o", "name").stdout == "two\n"
    assert json.loads(fairlead("context", "show", "one", "-o", "json").stdout)["server"] == "https://one.example"
    assert fairlead("context", "show", "--context", "one", "-o", "name").stdout == "one\n"
    monkeypatch.setenv("FAIRLEAD_CONTEXT", "one")
    assert fairlead("context", "show", "-o", "name").stdout == "one\n"
    said = fairlead("context", "use", "two").stderr
    assert "in this shell FAIRLEAD_CONTEXT chooses another one" in said


def test_use_rename_delete(fairlead: Fairlead, home: Path) -> None:
    """Each says what is the case now; the file stays private."""
    assert fairlead("context", "use", "one").stderr == "the current context is one: https://one.example\n"
    assert fairlead("context", "rename", "one", "prod").exit_code == 0
    assert read_stored(home / "config.yaml").current == "prod"
    assert "no context is current now" in fairlead("context", "delete", "prod").stderr
    assert list(read_stored(home / "config.yaml").contexts) == ["two"]
    assert (home / "config.yaml").stat().st_mode & 0o777 == 0o600
    assert fairlead("context", "show").exit_code == 4


def test_what_is_not_there_is_said(fairlead: Fairlead) -> None:
    """With what is."""
    for arguments in (("use", "x"), ("delete", "x"), ("rename", "x", "y"), ("show", "x")):
        result = fairlead("context", *arguments)
        assert (result.exit_code, "there are one, two" in result.stderr) == (4, True)
    assert fairlead("context", "rename", "one", "two").exit_code == 1
