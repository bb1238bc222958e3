"""Opens the connection that a command works over, from what `login` stored or the environment says."""

from __future__ import annotations

import os

from fairlead_cli.client import Client
from fairlead_cli.config import load
from fairlead_cli.options import chosen_context


def connect() -> Client:
    """
    Return a client of the chosen relay: of `--context`, or else the current one; nothing is sent yet.

    Raises: NotLoggedIn: no relay or token. ContextUnknown: no such context. ConfigInvalid: a setting cannot be used.
    """
    name = chosen_context()
    return Client(load({**os.environ, "FAIRLEAD_CONTEXT": name} if name else os.environ))
