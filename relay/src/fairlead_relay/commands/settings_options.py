"""Flags that choose settings, and the error for one that does not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import ValidationError

from fairlead_relay.settings import Settings

Command = TypeVar("Command", bound=Callable[..., object])


def data_dir_option(command: Command) -> Command:
    """Add `--data-dir`, which every command needs."""
    return click.option(
        "--data-dir",
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder of the relay's keys, database and bundles.  [default: /var/lib/fairlead-relay]",
    )(command)


def make_settings(**flags: Any) -> Settings:  # noqa: ANN401  (whatever click read)
    """
    Return the settings from flags, else environment, else defaults.

    Args:
        flags: Setting → value; None where the flag was not given.

    Raises: click.UsageError: a value that does not fit, named as it can be given.

    """
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        given = f"--{name.replace('_', '-')}" if flags.get(name) is not None else f"FAIRLEAD_RELAY_{name.upper()}"
        raise click.UsageError(f"{given}: {first['msg'].removeprefix('Value error, ')}") from None
