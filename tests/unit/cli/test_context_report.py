"""Contexts as they may be shown."""

import pytest

from fairlead_cli.config import Context, Stored
from fairlead_cli.context_report import report
from fairlead_cli.errors import ContextUnknown
from tests.unit.cli.scripted_relay import SERVER, TOKEN


def test_a_report_has_no_token() -> None:
    """In no field."""
    stored = Stored("one", {"one": Context(SERVER, TOKEN, "acme", "/ca.pem"), "two": Context(SERVER, TOKEN)})
    assert report(stored, "one").is_current
    assert not report(stored, "two").is_current
    assert TOKEN not in report(stored, "one").model_dump_json()
    with pytest.raises(ContextUnknown):
        report(stored, "three")
