"""
Shows what changes, once or again and again: drawn anew for a person, only what changed for a pipe.

Lists are asked for every two seconds; what happens within a deployment is `watching`'s and `following`'s business.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, TypeVar

import click

from fairlead_cli.errors import RelayUnreachable
from fairlead_cli.following import GIVE_UP_SECONDS
from fairlead_cli.terminal import Column, Format, Terminal

if TYPE_CHECKING:
    from pydantic import BaseModel

REFRESH_SECONDS = 2.0

RowT = TypeVar("RowT", bound="BaseModel")
FoundT = TypeVar("FoundT")


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
        self.repeat(fetch, lambda rows: self._refresh(rows, columns(), name, known))

    def repeat(
        self, fetch: Callable[[], FoundT], take: Callable[[FoundT], None], every_seconds: float = REFRESH_SECONDS
    ) -> NoReturn:
        """
        Ask again and again, until Ctrl-C.

        Args:
            fetch: Asks.
            take: Gets each answer.
            every_seconds: From an answer to the next question.
        Raises: RelayUnreachable: no answer for GIVE_UP_SECONDS.
        """
        answered_at = self.clock()
        while True:
            try:
                found = fetch()
            except RelayUnreachable as error:
                if self.clock() - answered_at > GIVE_UP_SECONDS:
                    raise
                self.terminal.say(f"{error}; trying again")
            else:
                answered_at = self.clock()
                take(found)
            self.sleep(every_seconds)

    def clear(self) -> bool:
        """Make room for what is drawn anew. Tells whether anything is: a pipe gets what changed."""
        if not self.terminal.is_table or not sys.stdout.isatty():
            return False
        click.clear()
        return True

    def _refresh(
        self,
        rows: Sequence[RowT],
        columns: Sequence[Column[RowT]],
        name: Callable[[RowT], str],
        known: dict[str, str],
    ) -> None:
        if self.clear():
            self.terminal.show_all(rows, columns, name, is_paged=False)
            return
        changed = [row for row in rows if known.get(name(row)) != row.model_dump_json()]
        if self.terminal.format is Format.JSON:
            for row in changed:
                self.terminal.write(row.model_dump_json())
        elif changed:
            self.terminal.show_all(changed, columns, name, is_titled=not known)
        known |= {name(row): row.model_dump_json() for row in changed}
