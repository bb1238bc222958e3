"""Raw calls; what they write is tested with `fairlead api`."""

import pytest

from fairlead_cli import calling
from fairlead_cli.calling import RawCall, call
from fairlead_cli.errors import AnswerInvalid
from fairlead_cli.terminal import Terminal
from tests.unit.cli.scripted_relay import ScriptedRelay


def test_an_answer_that_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A relay that was taken over must not fill the developer's memory."""
    monkeypatch.setattr(calling, "MAX_JSON_BYTES", 10)
    relay = ScriptedRelay()
    relay.answer("GET /v1/x", {"a": "0123456789"})
    with pytest.raises(AnswerInvalid, match="more than 10 bytes"):
        call(relay.client(), Terminal(), RawCall("GET", "/v1/x", {}, None, {}), is_whole=False, is_paged=False)
