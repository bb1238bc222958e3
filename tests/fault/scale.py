"""How long the fault tests are: short in `make test`, full in `make fault`."""

import os

FULL = os.environ.get("FAIRLEAD_FAULT") == "full"


def scaled(short: int, full: int) -> int:
    """Return the number for this run."""
    return full if FULL else short
