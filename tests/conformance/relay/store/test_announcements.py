"""What commits tell other relays, as PostgreSQL carries it; SQLite has one relay and nobody to tell."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fairlead_relay.bus import LocalBus
from fairlead_relay.store import Store
from fairlead_relay.store.announcements import Announcement
from fairlead_relay.store.events import newest_position
from fairlead_relay.store.outbox import EventRecord, Notice
from tests.conformance.domain import deploy, seed


def test_an_announcement_is_read_as_it_was_written() -> None:
    """Names that are not ASCII come through as well."""
    said = Announcement("ab12", 2**40, (("acme", "one"), ("höfe", "zwei")))
    assert said.to_payload().isascii()
    assert Announcement.from_payload(said.to_payload()) == said


def test_a_payload_keeps_to_the_limit() -> None:
    """Beyond it nobody is named, which means all."""
    said = Announcement("ab12", 7, tuple(("acme", f"cluster-{number:050}") for number in range(200)))
    payload = said.to_payload()
    assert len(payload.encode()) < 8000
    assert Announcement.from_payload(payload) == Announcement("ab12", 7, None)


@pytest.mark.parametrize("payload", ["", "null", "{}", "[1,2]", '["x","y",[]]', '["x",1,[1]]', '["x",1,7]'])
def test_what_no_relay_wrote_is_refused(payload: str) -> None:
    """Whoever may connect to the database may also notify."""
    with pytest.raises(ValueError, match="cannot be read"):
        Announcement.from_payload(payload)


async def test_a_commit_says_what_was_stored_before_it(database_url: str, kind: str) -> None:
    """Where another relay may write between, the position before tells whether it did."""
    told: list[tuple[int, int]] = []

    def note(notices: Sequence[Notice], before: int) -> None:
        positions = [notice.position for notice in notices if isinstance(notice, EventRecord)]
        told.append((before, positions[-1] if positions else 0))

    first, second = Store(database_url, note), Store(database_url, LocalBus().publish)
    await first.start()
    await second.start()
    try:
        await first.write(seed)
        await first.write(deploy)
        await second.write(deploy)
        between = await first.read(newest_position)
        await first.write(deploy)
    finally:
        await first.stop()
        await second.stop()
    assert [before for before, last in told if last] == ([0, between] if kind == "postgresql" else [0, 0])
