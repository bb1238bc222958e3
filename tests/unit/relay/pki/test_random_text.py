"""Random text: its alphabet, and that it is random."""

import re

from fairlead_relay.pki.random_text import random_base32


def test_text_has_the_length_asked_for_and_survives_names_and_urls() -> None:
    """Lower-case letters and digits only."""
    assert re.fullmatch(r"[a-z2-7]{26}", random_base32(26))


def test_no_two_texts_are_alike() -> None:
    """A thousand ids of 80 bits do not collide."""
    assert len({random_base32(16) for _ in range(1000)}) == 1000
