"""What every unit test of the agent leaves behind: nothing."""

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def unconfigured_logs() -> Iterator[None]:
    """Undo the set-up of logs, which is the process's: it would write to a stream that pytest has closed."""
    yield
    structlog.reset_defaults()
