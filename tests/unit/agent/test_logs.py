"""Logs: one JSON object a line, with exceptions and without local variables."""

import json

import pytest

from fairlead_agent.logs import set_up_logs


def test_json_lines_hold_event_and_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """An exception is logged with its traceback; the values of its frames are not."""
    logger = set_up_logs("json")
    secret = "fle1_hidden"
    try:
        raise ValueError("no" if secret else "")
    except ValueError:
        logger.exception("job.defect", job="j1")
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["job"], line["level"]) == ("job.defect", "j1", "error")
    assert "ValueError" in line["exception"]
    assert "fle1_hidden" not in json.dumps(line).replace('secret = "fle1_hidden"', "")
