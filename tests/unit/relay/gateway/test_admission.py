"""The token bucket for clients without a certificate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead_relay.gateway.admission import Admission


def test_a_burst_of_one_minute_passes_and_the_next_is_told_when_to_come_back() -> None:
    """The wait is as long as one place takes to become free."""
    admission = Admission(60, 0.0)
    assert [admission.admit(0.0) for _ in range(60)] == [0.0] * 60
    assert admission.admit(0.0) == pytest.approx(1.0)
    assert admission.admit(1.0) == 0.0


@given(st.lists(st.floats(0, 10), max_size=200), st.integers(1, 30))
def test_no_more_than_the_limit_is_admitted_in_any_time(waits: list[float], per_minute: int) -> None:
    """One minute's worth at once, and the rate after that, however they come."""
    admission, now, admitted = Admission(per_minute, 0.0), 0.0, 0
    for wait in waits:
        now += wait
        admitted += admission.admit(now) == 0.0
    assert admitted <= per_minute + now * per_minute / 60 + 1e-6
