"""Errors render one sentence from their fields, and say whether to try again."""

from __future__ import annotations

from http import HTTPStatus

import pytest

from fairlead_relay import errors
from fairlead_shared.errors import ErrorCode


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.NotFound("cluster", "one"), "no cluster is named 'one'"),
        (errors.Conflict("it is taken"), "it is taken"),
        (
            errors.EnrolmentRefused(ErrorCode.TOKEN_INVALID, "the token is unknown"),
            "enrolment refused: the token is unknown",
        ),
        (errors.SessionReplaced("abc"), "session abc was replaced by a newer connection of its agent"),
        (errors.ChannelClosed("connection lost"), "connection lost"),
        (
            errors.RequestInvalid(HTTPStatus.BAD_REQUEST, "the Content-Length is no number"),
            "the Content-Length is no number",
        ),
        (
            errors.AuditBroken("acme", 7, "it is missing"),
            "record 7 in the audit log of organization 'acme': it is missing",
        ),
        (errors.StoreError("why"), "why"),
        (errors.StoreUnavailable("why"), "the store is not available: why"),
        (errors.StoreOverloaded("10 writes wait"), "the store is not available: 10 writes wait"),
        (errors.StoreUnusable("why"), "the store cannot be used: why"),
        (
            errors.StoreDamaged("why"),
            f"the database is damaged: why; {errors.StoreDamaged.remedy}",
        ),
        (errors.BlobInvalid("ab" * 32, "it is not stored"), "content abababababab: it is not stored"),
    ],
)
def test_error_says_what_was_wrong(error: errors.RelayError, words: str) -> None:
    """The sentence holds the fields."""
    assert str(error) == words


def test_only_a_store_that_does_not_answer_is_worth_another_try() -> None:
    """Callers read the delay from the error."""
    assert errors.StoreOverloaded("why").retry_after_seconds == 1.0
    assert errors.StoreUnusable("why").retry_after_seconds is None
    assert errors.NotFound("cluster", "one").retry_after_seconds is None
