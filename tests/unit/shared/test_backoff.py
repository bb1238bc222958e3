"""Full-jitter backoff."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fairlead_shared.backoff import full_jitter


@given(st.integers(1, 10_000), st.floats(0, 0.999))
def test_wait_stays_within_its_ceiling(attempt: int, unit: float) -> None:
    """The wait never exceeds the cap, however many failures there were."""
    wait = full_jitter(attempt, base_seconds=1, cap_seconds=30, random_unit=unit)
    assert 0 <= wait < min(30, 2.0 ** min(attempt - 1, 10)) + 1e-9


def test_ceiling_doubles_until_the_cap() -> None:
    """1, 2, 4 … 30 seconds."""
    waits = [full_jitter(n, base_seconds=1, cap_seconds=30, random_unit=0.5) * 2 for n in range(1, 8)]
    assert waits == [1, 2, 4, 8, 16, 30, 30]
