"""Pages of a list: `limit` and `cursor` in, `items` and `next_cursor` out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Annotated, Generic, TypeVar

from fastapi import Query

from fairlead_relay.api.bodies import Shown
from fairlead_relay.api.problems import ApiCode, Problem

Item = TypeVar("Item")
Row = TypeVar("Row")

Limit = Annotated[int, Query(ge=1, le=500, description="Items per page.")]
DEFAULT_LIMIT = 100
_LONGEST_NUMBER = 18
"""Digits: below what a database's largest integer has."""
Cursor = Annotated[str | None, Query(max_length=128, description="`next_cursor` of the page before.")]


class Page(Shown, Generic[Item]):
    """Some items of a list, in its order."""

    items: list[Item]
    next_cursor: str | None
    """Where the next page starts; null at the end."""


def page(rows: Sequence[Row], limit: int, show: Callable[[Row], Item], cursor: Callable[[Row], str]) -> Page[Item]:
    """
    Make a page.

    Args:
        rows: Up to one more than `limit`: the extra one tells that there is a next page.
        limit: Items per page.
        show: Makes the item of a row.
        cursor: Names the place after a row.

    """
    shown = rows[:limit]
    return Page(items=[show(row) for row in shown], next_cursor=cursor(shown[-1]) if len(rows) > limit else None)


def sequence_of(cursor: str | None) -> int | None:
    """
    Read the cursor of a list that is ordered by number.

    Raises: Problem: no such list gave it.
    """
    if cursor is None:
        return None
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > _LONGEST_NUMBER:
        detail = "cursor: give the next_cursor of the page before"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, ApiCode.INVALID_REQUEST, detail, field="cursor")
    return int(cursor)
