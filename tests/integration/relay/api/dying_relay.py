"""The relay, killed between the effect of a request with an idempotency key and its stored answer."""

from __future__ import annotations

import os
import signal

from fairlead_relay.__main__ import main
from fairlead_relay.api import idempotency


def die(*_: object) -> None:
    """End the process without a word."""
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    vars(idempotency)["settle_key"] = die
    main()
