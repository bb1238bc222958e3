"""
Where the command writes: answers to stdout in the form `-o` asks for, errors and remarks to stderr.

Scripts read stdout; a remark there would break them. This module knows no API.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import click

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console

    from fairlead_cli.jsonpath import Template

RowT = TypeVar("RowT", bound="BaseModel")

_BOLD_RED, _RESET = "\x1b[1;31m", "\x1b[0m"
_DIFF_COLOURS = {"+": "\x1b[32m", "-": "\x1b[31m", "@": "\x1b[36m"}
_GAP = "   "


class Format(StrEnum):
    """Forms of an answer."""

    TABLE = "table"
    WIDE = "wide"
    """The table with more columns."""
    JSON = "json"
    YAML = "yaml"
    NAME = "name"
    """What other commands take as argument, one a line."""
    JSONPATH = "jsonpath"
    """What a template chooses from the JSON."""


@dataclass(frozen=True, slots=True)
class Column(Generic[RowT]):
    """One column of a table."""

    title: str
    value: Callable[[RowT], object]
    is_wide: bool = False
    """Whether only `-o wide` shows it."""
    most: int | None = None
    """Characters that a list shows of it; `-o wide` and single records show all."""


@dataclass(frozen=True, slots=True)
class Terminal:
    """How one run of the command may speak."""

    format: Format = Format.TABLE
    template: Template | None = None
    """Of `Format.JSONPATH`."""
    is_quiet: bool = False
    """No word to people but errors."""
    may_colour: bool = True
    may_page: bool = True
    """Whether what is longer than the screen may go through a pager."""

    @property
    def is_table(self) -> bool:
        """Whether the answer is for a person to read."""
        return self.format in {Format.TABLE, Format.WIDE}

    @property
    def is_live(self) -> bool:
        """Whether a tree can be drawn: a person reads a terminal that can move its cursor."""
        return self.is_table and not self.is_quiet and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"

    def say(self, sentence: str) -> None:
        """Tell a person something."""
        if not self.is_quiet:
            click.echo(printable(sentence), err=True)

    def fail(self, sentence: str) -> None:
        """Tell a person what went wrong, also when quiet."""
        word = f"{_BOLD_RED}error:{_RESET}" if self.may_colour and sys.stderr.isatty() else "error:"
        click.echo(f"{word} {printable(sentence)}", err=True)

    def write(self, line: str) -> None:
        """Write a line of the answer, at once: a reader of a pipe waits for it."""
        click.echo(printable(line))

    def write_lines(self, lines: Sequence[str]) -> None:
        """Write lines that are safe to print, through a pager where a person would have to scroll back."""
        if self.may_page and sys.stdout.isatty() and len(lines) >= shutil.get_terminal_size().lines:
            click.echo_via_pager("".join(f"{line}\n" for line in lines), color=self.may_colour)
        else:
            for line in lines:
                click.echo(line)

    def write_diffs(self, diffs: Iterable[str]) -> None:
        """Write unified diffs, coloured where a person reads them."""
        is_coloured = self.may_colour and sys.stdout.isatty()
        lines = []
        for line in (line for diff in diffs for line in diff.splitlines()):
            colour = _DIFF_COLOURS.get(line[:1]) if is_coloured else None
            lines.append(f"{colour}{printable(line)}{_RESET}" if colour else printable(line))
        self.write_lines(lines)

    def show_all(
        self,
        rows: Sequence[RowT],
        columns: Sequence[Column[RowT]],
        name: Callable[[RowT], str],
        *,
        is_titled: bool = True,
        is_paged: bool = True,
    ) -> None:
        """
        Write a list of records.

        Args:
            rows: The records.
            columns: Of the table.
            name: What other commands take.
            is_titled: Whether the table has titles; not where it goes on.
            is_paged: Whether a pager may take it; not where it is drawn again.
        """
        if self.format is Format.NAME:
            for row in rows:
                self.write(name(row))
        elif self.is_table:
            shown = [column for column in columns if self.format is Format.WIDE or not column.is_wide]
            cells = [[self._cell_of_list(column, row) for column in shown] for row in rows]
            lines = table_lines([column.title for column in shown], cells)[0 if is_titled else 1 :]
            replace(self, may_page=self.may_page and is_paged).write_lines(lines)
        else:
            self.write_tree({"items": [row.model_dump(mode="json") for row in rows]})

    def show(self, row: RowT, columns: Sequence[Column[RowT]], name: Callable[[RowT], str]) -> None:
        """Write one record; as a table it has a line per field."""
        if self.format is Format.NAME:
            self.write(name(row))
        elif self.is_table:
            shown = [(column.title, _cell(column.value(row))) for column in columns]
            width = max(len(title) for title, _ in shown)
            for title, value in shown:
                self.write(f"{title + ':':<{width + 1}}  {value}")
        else:
            self.write_tree(row.model_dump(mode="json"))

    def _cell_of_list(self, column: Column[RowT], row: RowT) -> str:
        cell = _cell(column.value(row))
        if column.most is None or len(cell) <= column.most or self.format is Format.WIDE:
            return cell
        return cell[: column.most - 1].rstrip() + "…"

    def write_tree(self, tree: Any) -> None:  # noqa: ANN401  (JSON)
        """Write an answer for programs, as `-o` asks; as JSON if it asks for a table."""
        if self.format is Format.JSONPATH and self.template is not None:
            rendered = _rendered(self.template, tree)
            # A prompt behind the answer would be hard to read, and $(…) drops the end of a line anyway.
            click.echo(rendered, nl=bool(rendered) and not rendered.endswith("\n"))
        elif self.format is not Format.YAML:
            click.echo(json.dumps(tree, indent=2, ensure_ascii=False))
        else:
            import yaml

            click.echo(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), nl=False)

    def console(self) -> Console:
        """Return a rich console on stdout."""
        from rich.console import Console

        return Console(no_color=not self.may_colour, highlight=False)


def _rendered(template: Template, tree: Any) -> str:  # noqa: ANN401  (JSON)
    from fairlead_cli.errors import OutputInvalid
    from fairlead_cli.jsonpath import TemplateInvalid

    try:
        return template.render(tree)
    except TemplateInvalid as error:
        raise OutputInvalid(str(error)) from None


def table_lines(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lay out a table as kubectl does: titles in capitals, columns as wide as their widest cell."""
    everything = [[title.upper() for title in titles], *rows]
    widths = [max(len(row[index]) for row in everything) for index in range(len(titles))]
    padded = ((f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in everything)
    return [_GAP.join(cells).rstrip() for cells in padded]


def printable(text: str) -> str:
    """Replace control characters: a cause may repeat what a container wrote, and a terminal would obey it."""
    return "".join(character if character.isprintable() or character in "\n\t" else "�" for character in text)


def _cell(value: object) -> str:
    return "-" if value is None or value == "" else " ".join(printable(str(value)).split())
