"""Flags that choose settings, and the error for one that does not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from fairlead_relay.errors import SettingsInvalid
from fairlead_relay.settings import Settings
from fairlead_relay.settings_sources import EffectiveSettings, resolve_settings

Command = TypeVar("Command", bound=Callable[..., object])


def data_dir_option(command: Command) -> Command:
    """Add `--data-dir`, which every command needs."""
    return click.option(
        "--data-dir",
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder of the relay's keys, database and bundles.  [default: /var/lib/fairlead-relay]",
    )(command)


def resolve(**flags: object) -> EffectiveSettings:
    """
    Return the settings from flags, else environment, else the file that `--config` or the environment names.

    Args:
        flags: Setting → value; None where the flag was not given.

    Raises: click.UsageError: a value that does not fit, named as it was given.

    """
    context = click.get_current_context(silent=True)
    config_file = context.find_root().params.get("config") if context is not None else None
    try:
        return resolve_settings(flags, config_file=config_file)
    except SettingsInvalid as error:
        raise click.UsageError(str(error)) from None


def make_settings(**flags: object) -> Settings:
    """Return the settings that `resolve` finds, without their origins."""
    return resolve(**flags).settings
