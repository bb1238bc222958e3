"""Options that several commands have."""

import click
import pytest

from fairlead_cli.options import examples, with_output
from fairlead_cli.terminal import Format, Terminal


def test_output_options_make_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """In every command alike; NO_COLOR of any value counts, as no-color.org asks."""
    seen: list[Terminal] = []

    @click.command()
    @with_output
    def command(terminal: Terminal) -> None:
        seen.append(terminal)

    command(["-o", "json", "--quiet"], standalone_mode=False)
    command(["--no-color"], standalone_mode=False)
    command(["--no-pager"], standalone_mode=False)
    monkeypatch.setenv("NO_COLOR", "1")
    command([], standalone_mode=False)
    assert seen == [
        Terminal(Format.JSON, is_quiet=True),
        Terminal(may_colour=False),
        Terminal(may_page=False),
        Terminal(may_colour=False),
    ]


def test_examples_keep_their_lines() -> None:
    """Click would fill them into a paragraph."""
    assert examples("a b") == "\b\nExample:\n  a b"
    assert examples("a", "b") == "\b\nExamples:\n  a\n  b"
