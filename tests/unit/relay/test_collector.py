"""How often Python's collector looks."""

from __future__ import annotations

import gc

from fairlead_relay.collector import look_less_often


def test_what_is_there_is_looked_at_no_more() -> None:
    """And what is new only when there is more of it."""
    before = gc.get_threshold()
    try:
        look_less_often()
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold()[0] > before[0]
        assert gc.get_threshold()[1:] == before[1:]
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
