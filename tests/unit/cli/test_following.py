"""Following a stream across drops: each event once, with patience that ends."""

from collections.abc import Iterator

import pytest

from fairlead_cli.errors import RelayUnreachable
from fairlead_cli.following import GIVE_UP_SECONDS, follow
from fairlead_cli.records import StoredEvent
from tests.unit.cli.scripted_relay import stored

LOST = RelayUnreachable("https://r", "lost")


class Line:
    """A line to the relay that drops where the script says, with a clock that only waiting moves."""

    def __init__(self, *parts: list[int | RelayUnreachable]) -> None:
        self.parts = list(parts)
        self.asked: list[int] = []
        self.drops = 0
        self.now = 0.0

    def stream(self, after: int) -> Iterator[StoredEvent]:
        """Give the next part."""
        self.asked.append(after)
        for one in self.parts.pop(0) if len(self.parts) > 1 else self.parts[0]:
            if isinstance(one, RelayUnreachable):
                raise one
            yield StoredEvent.model_validate(stored(one, {"type": "step", "step": "apply", "status": "started"}))

    def drop(self, _error: RelayUnreachable) -> None:
        """Count a drop."""
        self.drops += 1

    def sleep(self, seconds: float) -> None:
        """Let time pass; never not at all, so that giving up ends."""
        self.now += max(seconds, 0.5)

    def follow(self, after: int = 0) -> list[int]:
        """Follow to the end."""
        events = follow(self.stream, on_drop=self.drop, after=after, clock=lambda: self.now, sleep=self.sleep)
        return [event.id for event in events]


def test_events_come_once_across_drops() -> None:
    """Also when the relay repeats some."""
    line = Line([1, 2, LOST], [LOST], [2, 3, LOST], [4])
    assert line.follow() == [1, 2, 3, 4]
    assert (line.asked, line.drops) == ([0, 2, 2, 3], 3)


def test_following_begins_after_a_position() -> None:
    """`events --after` goes on where a script stopped."""
    line = Line([3, 4, 5])
    assert line.follow(after=4) == [5]
    assert line.asked == [4]


def test_patience_ends() -> None:
    """After five minutes without any connection."""
    line = Line([1, LOST], [LOST])
    with pytest.raises(RelayUnreachable):
        line.follow()
    assert GIVE_UP_SECONDS < line.now < GIVE_UP_SECONDS + 60


def test_an_hour_without_news_is_no_silence() -> None:
    """A stream that was open all the time and breaks then is made again."""
    line = Line([1, LOST], [2])
    events = follow(line.stream, on_drop=line.drop, clock=lambda: line.now, sleep=line.sleep)
    assert next(events).id == 1
    line.now += 3600
    assert next(events).id == 2
