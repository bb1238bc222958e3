"""Turns: organizations one after the other, whatever each brings."""

from __future__ import annotations

from fairlead_relay.dispatch.turns import Turns


def test_one_session_does_not_wait_for_the_thousand_of_another_organization() -> None:
    """It is in the very next turn, though it came last."""
    turns = Turns()
    for number in range(1000):
        turns.add("greedy", f"greedy-{number}")
    turns.add("modest", "modest-0")
    assert turns.take(2) == ["greedy-0", "modest-0"]
    assert len(turns.take(2000)) == 999
    assert not turns


def test_organizations_take_turns_from_where_the_last_ones_ended() -> None:
    """Within one, first come, first served."""
    turns = Turns()
    for organization, count in (("a", 3), ("b", 1), ("c", 2)):
        for number in range(count):
            turns.add(organization, f"{organization}{number}")
    assert [turns.take(2), turns.take(2), turns.take(2), turns.take(2)] == [
        ["a0", "b0"],
        ["c0", "a1"],
        ["c1", "a2"],
        [],
    ]


def test_a_session_waits_once_and_may_leave() -> None:
    """Coming again keeps its place; leaving twice is leaving once."""
    turns = Turns()
    for session in ("one", "two", "one"):
        turns.add("acme", session)
    turns.discard("acme", "two")
    turns.discard("acme", "two")
    turns.discard("globex", "two")
    assert turns
    assert turns.take(9) == ["one"]
    turns.add("acme", "two")
    turns.discard("acme", "two")
    assert not turns
