"""Enrolment tokens."""

from __future__ import annotations

import hashlib

import pytest

from fairlead_shared.enrolment import EnrolmentToken
from fairlead_shared.errors import TokenInvalid

TOKEN = EnrolmentToken("0123456789abcdef", "s" * 32, "a" * 64)


def test_text_round_trips_and_repr_hides_the_secret() -> None:
    """What is printed once is read back, with white space of a paste around it; logs never show it."""
    assert EnrolmentToken.parse(f" {TOKEN.to_text()}\n") == TOKEN
    assert "ssss" not in repr(TOKEN)
    assert TOKEN.secret_hash() == hashlib.sha256(b"s" * 32).hexdigest()


@pytest.mark.parametrize(
    "text", ["", "fle1_x", "fle2" + TOKEN.to_text()[4:], TOKEN.to_text()[:-1], TOKEN.to_text() + "a"]
)
def test_malformed_token_is_refused_without_repeating_it(text: str) -> None:
    """A cut-off or foreign token is named as such and not echoed."""
    with pytest.raises(TokenInvalid) as caught:
        EnrolmentToken.parse(text)
    assert "ssss" not in str(caught.value)
