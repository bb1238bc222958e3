"""Opens the connection that a command works over, from what `login` stored or the environment says."""

from __future__ import annotations

import os

from fairlead_cli.client import Client
from fairlead_cli.config import load


def connect() -> Client:
    """
    Return a client of the current relay; nothing is sent yet.

    Raises: NotLoggedIn: no relay or token. ConfigInvalid: a setting cannot be used.
    """
    return Client(load(os.environ))
