"""The event stream format, by the standard."""

import pytest

from fairlead_cli.server_events import MAX_EVENT_CHARACTERS, ServerEvent, parse_events


def test_events_comments_and_positions() -> None:
    """Pings are comments; a position stays until the next; an event that was cut off is dropped."""
    text = ": connected\n\nid: 4\ndata: a\ndata:b\n\n: ping\n\nevent: end\ndata: {}\n\nretry: 3\nid\n\nid: 9\ndata: cut"
    assert list(parse_events(text.split("\n"))) == [
        ServerEvent("message", "a\nb", "4"),
        ServerEvent("end", "{}", "4"),
    ]


def test_an_id_with_a_null_is_ignored() -> None:
    """As the standard asks."""
    assert [event.position for event in parse_events(["id: a\0b", "data: x", ""])] == [""]


def test_an_endless_event_is_refused() -> None:
    """Nobody fills this machine's memory."""
    with pytest.raises(ValueError, match="more than"):
        list(parse_events(["data: " + "x" * 1000] * (MAX_EVENT_CHARACTERS // 1000)))
