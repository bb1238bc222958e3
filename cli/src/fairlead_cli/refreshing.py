"""
Shows a list, once or again and again: as a table that is drawn anew for a person, as the rows that changed for a pipe.

The relay is asked every two seconds; what happens within a deployment is `watching`'s and `following`'s business.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import click

from fairlead_cli.errors import RelayUnreachable
from fairlead_cli.following import GIVE_UP_SECONDS
from fairlead_cli.terminal import Column, Format, Terminal

if TYPE_CHECKING:
    from pydantic import BaseModel

REFRESH_SECONDS = 2.0

RowT = TypeVar("RowT", bound="BaseModel")


@dataclass(frozen=True, slots=True)
class Listing:
    """How a list is shown, whatever is in it."""

    terminal: Terminal
    is_watched: bool
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def show(
        self,
        fetch: Callable[[], Sequence[RowT]],
        columns: Callable[[], Sequence[Column[RowT]]],
        name: Callable[[RowT], str],
    ) -> None:
        """
        Write the rows; if watched, until Ctrl-C.

        Args:
            fetch: Asks for them.
            columns: Makes the columns, whose ages count from then.
            name: What other commands take.
        Raises: RelayUnreachable: no answer, if watched for GIVE_UP_SECONDS.
        """
        if not self.is_watched:
            self.terminal.show_all(fetch(), columns(), name)
            return
        known: dict[str, str] = {}
        answered_at = self.clock()
        while True:
            try:
                rows = fetch()
            except RelayUnreachable as error:
                if self.clock() - answered_at > GIVE_UP_SECONDS:
                    raise
                self.terminal.say(f"{error}; trying again")
            else:
                answered_at = self.clock()
                self._refresh(rows, columns(), name, known)
            self.sleep(REFRESH_SECONDS)

    def _refresh(
        self,
        rows: Sequence[RowT],
        columns: Sequence[Column[RowT]],
        name: Callable[[RowT], str],
        known: dict[str, str],
    ) -> None:
        if self.terminal.is_table and sys.stdout.isatty():
            click.clear()
            self.terminal.show_all(rows, columns, name, is_paged=False)
            return
        changed = [row for row in rows if known.get(name(row)) != row.model_dump_json()]
        if self.terminal.format is Format.JSON:
            for row in changed:
                self.terminal.write(row.model_dump_json())
        elif changed:
            self.terminal.show_all(changed, columns, name, is_titled=not known)
        known |= {name(row): row.model_dump_json() for row in changed}
