"""How fast handshakes are taken on."""

from fairlead_relay.gateway.listener import Pace


def test_a_burst_passes_and_the_rest_is_spread() -> None:
    """Ten at once, then one per 0.1 s."""
    pace = Pace(10, 10, now=0)
    waits = [pace.take(0) for _ in range(12)]
    assert waits[:10] == [0] * 10
    assert [round(wait, 3) for wait in waits[10:]] == [0.1, 0.2]


def test_time_refills_no_more_than_a_burst() -> None:
    """A quiet night is no credit for a stampede."""
    pace = Pace(10, 2, now=0)
    assert pace.take(3600) == pace.take(3600) == 0
    assert pace.take(3600) > 0


def test_who_waits_as_told_is_served_at_the_rate() -> None:
    """In the long run, 1,000 take 100 s less the burst."""
    pace, now = Pace(10, 5, now=0), 0.0
    for _ in range(1000):
        now += pace.take(now)
    assert 99 < now < 100
