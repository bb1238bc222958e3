"""When the link polls, and when it goes back to a websocket."""

import pytest

from fairlead_agent.transport_choice import EARLY_CLOSES, EARLY_SECONDS, POLL_SECONDS, Transport, TransportChoice

WEBSOCKET, LONG_POLL = Transport.WEBSOCKET, Transport.LONG_POLL


@pytest.fixture
def choice() -> TransportChoice:
    """Make one whose jitter is in the middle."""
    return TransportChoice(lambda: 0.5)


def cut(choice: TransportChoice, times: int, now: float = 0, lived: float = 5) -> None:
    """Have websockets cut."""
    for _ in range(times):
        choice.ended(WEBSOCKET, lived, now, was_cut=True)


def test_a_websocket_comes_first_and_stays_through_a_restart(choice: TransportChoice) -> None:
    """One cut less than it takes changes nothing."""
    cut(choice, EARLY_CLOSES - 1)
    assert choice.next(0) is WEBSOCKET


def test_websockets_cut_early_in_a_row_lead_to_polls_for_a_while(choice: TransportChoice) -> None:
    """Then a websocket is tried again."""
    cut(choice, EARLY_CLOSES, now=100)
    assert choice.next(100) is LONG_POLL
    assert choice.poll_seconds_left(100) == POLL_SECONDS
    assert choice.next(100 + POLL_SECONDS) is WEBSOCKET
    assert choice.poll_seconds_left(100 + POLL_SECONDS + 1) == 0


def test_one_more_cut_after_polling_leads_back_to_polls(choice: TransportChoice) -> None:
    """The network has not changed: it need not be proved three times again."""
    cut(choice, EARLY_CLOSES)
    choice.ended(LONG_POLL, POLL_SECONDS, POLL_SECONDS, was_cut=False)
    assert choice.next(POLL_SECONDS) is WEBSOCKET
    cut(choice, 1, now=POLL_SECONDS)
    assert choice.next(POLL_SECONDS) is LONG_POLL


def test_a_websocket_that_lasts_clears_the_count(choice: TransportChoice) -> None:
    """Whatever ends it then."""
    cut(choice, EARLY_CLOSES - 1)
    choice.ended(WEBSOCKET, EARLY_SECONDS + 1, 0, was_cut=True)
    cut(choice, EARLY_CLOSES - 1)
    assert choice.next(0) is WEBSOCKET


def test_what_the_relay_ends_is_no_cut(choice: TransportChoice) -> None:
    """However often."""
    for _ in range(10):
        choice.ended(WEBSOCKET, 1, 0, was_cut=False)
        choice.failed(WEBSOCKET, 0, upgrade_refused=False)
    assert choice.next(0) is WEBSOCKET


def test_refused_upgrades_lead_to_polls(choice: TransportChoice) -> None:
    """Something on the way answers in the relay's place."""
    for _ in range(EARLY_CLOSES):
        choice.failed(WEBSOCKET, 0, upgrade_refused=True)
    assert choice.next(0) is LONG_POLL


@pytest.mark.parametrize("welcomed", [True, False])
def test_polls_that_fail_lead_back_to_a_websocket(choice: TransportChoice, welcomed: bool) -> None:  # noqa: FBT001
    """Neither transport is a trap: they take turns until one lasts."""
    cut(choice, EARLY_CLOSES)
    if welcomed:
        choice.ended(LONG_POLL, 5, 10, was_cut=True)
    else:
        choice.failed(LONG_POLL, 10, upgrade_refused=False)
    assert choice.next(10) is WEBSOCKET
    cut(choice, 1, now=10)
    assert choice.next(10) is LONG_POLL
