"""Commands act as the user who runs them."""

from __future__ import annotations

import os
import pwd

import pytest

from fairlead_relay.commands.acting import command_actor
from fairlead_relay.store.audit import Actor


def test_a_command_is_the_users_who_runs_it() -> None:
    """By the name that the machine knows."""
    name = pwd.getpwuid(os.getuid()).pw_name
    assert command_actor("token create") == Actor("command", "fairlead-relay token create", name)


def test_a_user_without_a_name_is_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs as any uid."""
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    assert command_actor("restore").name == "uid 4000000000"
