"""Errors render one sentence from their fields."""

from __future__ import annotations

import pickle

import pytest

from fairlead_shared import errors


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.NameInvalid("cluster", "X", "rule"), "cluster 'X' is not valid: rule"),
        (errors.BundleInvalid("why", line=3), "bundle is not valid (line 3): why"),
        (errors.StatementInvalid("why"), "deployment statement is not valid: why"),
        (errors.EnvelopeInvalid("why"), "envelope is not valid: why"),
        (errors.SignatureInsufficient(1, 2, ()), "1 of 2 required signatures are good (trusted signers: nobody)"),
        (errors.SealInvalid("why"), "sealed value cannot be opened: why"),
        (errors.TokenInvalid("why"), "enrolment token is not valid: why"),
        (errors.FrameInvalid(errors.ErrorCode.MALFORMED, "why"), "frame is not valid (malformed): why"),
        (errors.TransitionInvalid("job", "queued", "fail"), "job in state queued does not take event fail"),
        (errors.QueueFull("why"), "why"),
    ],
)
def test_error_says_what_was_wrong(error: errors.SharedError, words: str) -> None:
    """The sentence holds the fields."""
    assert str(error) == words
    assert isinstance(error, errors.SharedError)


def test_bundle_error_crosses_a_process() -> None:
    """Bundles are checked in a worker process; its error must arrive whole."""
    error = errors.BundleInvalid("why", line=3, code=errors.ErrorCode.TOO_LARGE)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.code) == (str(error), errors.ErrorCode.TOO_LARGE)
