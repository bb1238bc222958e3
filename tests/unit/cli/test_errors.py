"""Errors: one sentence each, with where and what to do."""

import pytest

from fairlead_cli.errors import (
    AnswerInvalid,
    ApiError,
    CliError,
    ConfigInvalid,
    ExitCode,
    ManifestInvalid,
    NoRecipient,
    NotLoggedIn,
    PlanRefused,
    PlanUnanswered,
    RecipientChanged,
    RelayUnreachable,
)


@pytest.mark.parametrize(
    ("error", "code", "parts"),
    [
        (ManifestInvalid("is wrong", file="a.yaml", line=3, field="kind"), 1, ["a.yaml:3: kind: is wrong"]),
        (ManifestInvalid("is wrong", file="a.yaml"), 1, ["a.yaml: is wrong"]),
        (ConfigInvalid("/c", "is wrong"), 1, ["/c: is wrong"]),
        (NotLoggedIn("no relay is named"), 4, ["no relay is named", "fairlead login"]),
        (NoRecipient("prod"), 1, ["cluster prod", "install its agent"]),
        (RecipientChanged("acme/prod", "SHA256:a", "SHA256:b", "/pins", 4), 1, ["SHA256:a", "SHA256:b", "line 4 of /"]),
        (PlanUnanswered(60, "no agent"), 8, ["no plan after 60 s: no agent", "--timeout"]),
        (PlanRefused("prod", "not bound"), 5, ["cluster prod made no plan: not bound"]),
        (RelayUnreachable("https://r", "refused"), 1, ["https://r", "refused"]),
        (AnswerInvalid("GET /v1", "is no JSON"), 1, ["GET /v1: is no JSON"]),
        (ApiError(401, "unauthenticated", "", "unknown token"), 4, ["unknown token (unauth", "fairlead login"]),
        (ApiError(403, "forbidden", "", "needs admin"), 4, ["needs admin (forbidden)"]),
        (ApiError(422, "invalid_request", "", "too long", "name"), 1, ["name: too long (invalid_request)"]),
        (ApiError(500, "", ""), 1, ["HTTP status 500"]),
    ],
)
def test_each_error_says_what_where_and_what_to_do(error: CliError, code: int, parts: list[str]) -> None:
    """And ends the command with the documented code."""
    assert error.exit_code == ExitCode(code)
    assert all(part in str(error) for part in parts), str(error)
