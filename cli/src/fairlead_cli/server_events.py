"""
Server-Sent Events, parsed: text lines in, events out.

Source: HTML Living Standard §9.2.6 (interpreting an event stream). `retry` is ignored: our own backoff decides.
This module opens no connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MAX_EVENT_CHARACTERS = 1_000_000
"""A progress event has at most a few thousand; more is no relay of ours."""


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event of a stream."""

    name: str
    data: str
    position: str
    """The last `id` seen, from which to resume; empty before the first."""


def parse_events(lines: Iterable[str]) -> Iterator[ServerEvent]:
    """
    Turn the lines of a stream, without line ends, into events.

    Returns: An iterator that ends with the lines; an event that was cut off is dropped, as the standard asks.
    Raises: ValueError: an event is longer than MAX_EVENT_CHARACTERS.
    """
    name, position, size = "", "", 0
    collected: list[str] = []
    for line in lines:
        if not line:
            if collected:
                yield ServerEvent(name or "message", "\n".join(collected), position)
            name, collected, size = "", [], 0
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        size += len(line)
        if size > MAX_EVENT_CHARACTERS:
            raise ValueError(f"an event has more than {MAX_EVENT_CHARACTERS:,} characters")
        if field == "data":
            collected.append(value)
        elif field == "event":
            name = value
        elif field == "id" and "\0" not in value:
            position = value
