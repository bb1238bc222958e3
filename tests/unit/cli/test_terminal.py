"""Answers on stdout, words on stderr, in the form asked for."""

import json
import os

import pytest
import yaml

from fairlead_cli.errors import OutputInvalid
from fairlead_cli.jsonpath import parse_template
from fairlead_cli.records import Application
from fairlead_cli.terminal import Column, Format, Terminal, printable, table_lines

ROWS = [Application(name="shop"), Application(name="a-long-name")]
COLUMNS: list[Column[Application]] = [
    Column("Name", lambda row: row.name),
    Column("Twice", lambda row: None if row.name == "shop" else row.name * 2, is_wide=True),
]

Capture = pytest.CaptureFixture[str]


def shown(form: Format, capsys: Capture) -> str:
    """Return what a list is in one form."""
    Terminal(form).show_all(ROWS, COLUMNS, lambda row: row.name)
    return capsys.readouterr().out


def test_lists_in_each_form(capsys: Capture) -> None:
    """For people and for programs."""
    assert shown(Format.TABLE, capsys) == "NAME\nshop\na-long-name\n"
    assert shown(Format.WIDE, capsys) == (
        "NAME          TWICE\nshop          -\na-long-name   a-long-namea-long-name\n"
    )
    assert shown(Format.NAME, capsys) == "shop\na-long-name\n"
    assert [item["name"] for item in json.loads(shown(Format.JSON, capsys))["items"]] == ["shop", "a-long-name"]
    assert [item["name"] for item in yaml.safe_load(shown(Format.YAML, capsys))["items"]] == ["shop", "a-long-name"]


def test_one_record_in_each_form(capsys: Capture) -> None:
    """As a table it has a line per field."""
    Terminal().show(ROWS[0], COLUMNS, lambda row: row.name)
    assert capsys.readouterr().out == "Name:   shop\nTwice:  -\n"
    Terminal(Format.NAME).show(ROWS[0], COLUMNS, lambda row: row.name)
    assert capsys.readouterr().out == "shop\n"
    Terminal(Format.JSON).show(ROWS[0], COLUMNS, lambda row: row.name)
    assert json.loads(capsys.readouterr().out)["name"] == "shop"


def test_a_template_chooses_from_the_json(capsys: Capture) -> None:
    """Of a list and of one record; the last line has an end, and nothing has none."""
    for template, text in (
        ("{.items[*].name}", "shop a-long-name\n"),
        ("{.x}", ""),
        ('{.items[0].name}{"\\n"}', "shop\n"),
    ):
        Terminal(Format.JSONPATH, parse_template(template)).show_all(ROWS, COLUMNS, lambda row: row.name)
        assert capsys.readouterr().out == text
    Terminal(Format.JSONPATH, parse_template("{.name}")).show(ROWS[0], COLUMNS, lambda row: row.name)
    assert capsys.readouterr().out == "shop\n"
    endless = Terminal(Format.JSONPATH, parse_template("{range $.items[*]}" * 4 + "x" + "{end}" * 4))
    with pytest.raises(OutputInvalid, match="-o jsonpath: it gives more than"):
        endless.show_all(ROWS * 50, COLUMNS, lambda row: row.name)


def test_a_long_cell_is_cut_in_a_list_and_nowhere_else(capsys: Capture) -> None:
    """A cause may have four lines; a table has one per row."""
    columns: list[Column[Application]] = [Column("Name", lambda row: row.name, most=6)]
    Terminal().show_all(ROWS, columns, lambda row: row.name)
    assert capsys.readouterr().out == "NAME\nshop\na-lon…\n"
    Terminal(Format.WIDE).show_all(ROWS, columns, lambda row: row.name)
    Terminal().show(ROWS[1], columns, lambda row: row.name)
    assert capsys.readouterr().out.count("a-long-name") == 2


def test_quiet_leaves_errors(capsys: Capture) -> None:
    """And answers."""
    terminal = Terminal(is_quiet=True)
    terminal.say("remark")
    terminal.fail("bad")
    terminal.write("answer")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("answer\n", "error: bad\n")


def test_an_empty_list_has_its_titles() -> None:
    """Nothing found looks different from nothing done."""
    assert table_lines(["A", "B"], []) == ["A   B"]


def test_control_characters_are_not_obeyed(capsys: Capture) -> None:
    """Not in tables, not in errors."""
    assert printable("a\x1b[31mb\x00c\nd") == "a�[31mb�c\nd"
    Terminal().fail("\x1b]0;title\x07")
    assert "\x1b" not in capsys.readouterr().err


def test_diffs_are_coloured_for_people(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where colours are wanted; a value in it cannot steer the terminal."""
    Terminal().write_diffs(["-a\n+b\x1b[2J"])
    assert capsys.readouterr().out == "-a\n+b\ufffd[2J\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    Terminal().write_diffs(["-a", " b"])
    Terminal(may_colour=False).write_diffs(["-a"])
    assert capsys.readouterr().out == "\x1b[31m-a\x1b[0m\n b\n-a\n"


def test_long_answers_go_through_a_pager(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal, where they do not fit, unless it is not wanted."""
    paged: list[str] = []
    monkeypatch.setattr("click.echo_via_pager", lambda text, **_: paged.append(text))
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((80, 3)))
    Terminal().show_all(ROWS, COLUMNS, lambda row: row.name)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    Terminal().show_all(ROWS[:1], COLUMNS, lambda row: row.name)
    Terminal(may_page=False).show_all(ROWS, COLUMNS, lambda row: row.name)
    Terminal().show_all(ROWS, COLUMNS, lambda row: row.name, is_paged=False)
    assert paged == []
    assert capsys.readouterr().out.count("NAME") == 4
    Terminal().show_all(ROWS, COLUMNS, lambda row: row.name)
    assert paged == ["NAME\nshop\na-long-name\n"]
    assert capsys.readouterr().out == ""


def test_a_tree_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for pipes, programs, the quiet, or terminals that cannot move their cursor."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert Terminal().is_live
    assert not Terminal(is_quiet=True).is_live
    assert not Terminal(Format.JSON).is_live
    monkeypatch.setenv("TERM", "dumb")
    assert not Terminal().is_live


def test_colours_can_be_switched_off() -> None:
    """For screens and people that do not want them."""
    assert Terminal(may_colour=False).console().no_color
