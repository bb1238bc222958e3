"""Reading the token's file; the exchange itself is in tests/integration/test_agent_link.py."""

from pathlib import Path

import pytest

from fairlead_agent.enrolment import read_token
from fairlead_agent.errors import EnrolmentRefused
from fairlead_shared.errors import ErrorCode

TOKEN = f"fle1_{'a' * 16}_{'b' * 32}_{'c' * 64}"


def test_token_is_read_with_its_newline(tmp_path: Path) -> None:
    """Editors and kubectl leave a newline; it does not matter."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert read_token(tmp_path / "token").to_text() == TOKEN


@pytest.mark.parametrize("content", [None, "", "fle1_short", f"{TOKEN}x", "\0" * 100_000])
def test_unusable_file_is_one_sentence_without_its_content(tmp_path: Path, content: str | None) -> None:
    """A file that is missing, empty or holds something else is named; what it holds is not."""
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
    with pytest.raises(EnrolmentRefused, match="token") as caught:
        read_token(path)
    assert caught.value.code is ErrorCode.TOKEN_INVALID
    assert "b" * 32 not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_no_file_at_all_says_which_setting(tmp_path: Path) -> None:
    """Without certificate and token the agent says what to set."""
    with pytest.raises(EnrolmentRefused, match="FAIRLEAD_ENROLMENT_TOKEN_FILE"):
        read_token(None)
