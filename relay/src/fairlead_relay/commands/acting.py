"""Who the audit log says ran a command of the relay: the user of this machine, who may read its data directory."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairlead_relay.store.audit import Actor


def command_actor(command: str) -> Actor:
    """
    Return the actor of a command.

    Args:
        command: Without the program's name, such as `token create`.
    """
    from fairlead_relay.store.audit import Actor  # noqa: PLC0415  (--help does without it)

    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user need have no name
        user = f"uid {os.getuid()}"
    return Actor("command", f"fairlead-relay {command}", user)
