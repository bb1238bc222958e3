"""API tokens as text."""

import hashlib

import pytest

from fairlead_relay.pki.access_tokens import AccessToken


def test_a_token_survives_its_text_form() -> None:
    """Also with white space around it, as files and terminals add."""
    token = AccessToken.generate()
    assert AccessToken.parse(f" {token.text}\n") == token
    assert token.text.startswith("flt_")


def test_the_secret_is_stored_as_its_hash_and_hidden_in_logs() -> None:
    """The repr is what ends in tracebacks."""
    token = AccessToken.generate()
    assert token.secret_sha256 == hashlib.sha256(token.secret.encode()).hexdigest()
    assert token.secret not in repr(token)


@pytest.mark.parametrize("text", ["", "flt_", "flt_abc_def", "fle1_" + "a" * 16 + "_" + "b" * 32, "x" * 100_000])
def test_what_is_no_token_is_none(text: str) -> None:
    """From anybody, so anything."""
    assert AccessToken.parse(text) is None
