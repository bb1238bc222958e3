"""Corrections: at once, then ever more rarely; a fight is the same field again and again."""

import pytest

from fairlead_agent.drift.corrections import CALM_SECONDS, DELAYS_SECONDS, FIGHT_SECONDS, Corrections


def test_each_correction_waits_longer_than_the_one_before() -> None:
    """At once, then 10 s, 30 s, 2 min, 10 min, and 30 min for ever: four writes in ten minutes, two an hour later."""
    corrections, at, made = Corrections(), 1000.0, []
    assert corrections.next_at <= at
    for _ in range(7):
        corrections = corrections.made(at, ["/spec/replicas"])
        made.append(at - 1000)
        at = corrections.next_at
    assert made == [0, 10, 40, 160, 760, 2560, 4360]
    assert corrections.count == 7
    assert list(DELAYS_SECONDS) == sorted(DELAYS_SECONDS)


def test_the_same_field_three_times_in_ten_minutes_is_a_fight() -> None:
    """With others beside it or not; and it stays one until all this is history."""
    corrections = Corrections()
    corrections = corrections.made(0, ["/spec/replicas"])
    corrections = corrections.made(10, ["/spec/replicas", "/data/a"])
    assert not corrections.is_fought
    corrections = corrections.made(40, ["/data/b", "/spec/replicas"])
    assert corrections.is_fought
    corrections = corrections.made(10_000, ["/data/c"])
    assert corrections.is_fought


@pytest.mark.parametrize(
    "corrected",
    [
        [(0, ["/a"]), (10, ["/b"]), (40, ["/c"])],
        [(0, ["/a"]), (10, ["/a"]), (FIGHT_SECONDS + 1, ["/a"])],
    ],
)
def test_other_fields_or_longer_apart_are_no_fight(corrected: list[tuple[float, list[str]]]) -> None:
    """Three people may change three things, and one person one thing now and then."""
    corrections = Corrections()
    for at, fields in corrected:
        corrections = corrections.made(at, fields)
    assert not corrections.is_fought


def test_an_object_that_is_deleted_again_and_again_is_a_fight() -> None:
    """Made again, it has no fields that differ."""
    corrections = Corrections()
    for at in (0, 10, 40):
        corrections = corrections.made(at, [])
    assert corrections.is_fought


def test_an_attempt_that_failed_waits_and_is_no_correction() -> None:
    """A refused write is not tried again at once, and nobody is said to fight."""
    corrections = Corrections()
    for at in (0, 10, 40):
        corrections = corrections.failed(at)
    assert (corrections.count, corrections.is_fought, corrections.next_at) == (0, False, 160)


def test_an_hour_without_a_correction_is_calm() -> None:
    """Counted from the last one."""
    corrections = Corrections()
    corrections = corrections.made(0, ["/a"])
    corrections = corrections.made(10, ["/a"])
    assert corrections.calm_at == 10 + CALM_SECONDS
