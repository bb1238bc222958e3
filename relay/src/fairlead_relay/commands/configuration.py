"""`fairlead-relay config`: shows the settings in force, and where each came from."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fairlead_relay.commands.settings_options import data_dir_option, resolve


@click.group()
def config() -> None:
    """Show the settings in force."""


@config.command()
@data_dir_option
@click.option("-o", "--output", type=click.Choice(["table", "json", "toml"]), default="table", show_default=True)
def show(data_dir: Path | None, output: str) -> None:
    """
    Show each setting, its value and where that came from; a password in a URL is masked.

    What 'serve' is told by flags of its own comes on top. -o toml prints a file for --config.

    Example: fairlead-relay --config /etc/fairlead/relay.toml config show
    """
    effective = resolve(data_dir=data_dir)
    shown = effective.settings.masked()
    if output == "json":
        rows = {name: {"value": value, "origin": effective.origins[name]} for name, value in shown.items()}
        click.echo(json.dumps(rows, indent=2))
        return
    if output == "toml":
        for name, value in shown.items():
            # Strings, numbers, booleans and lists of strings are written alike in both languages.
            click.echo(f"{name} = {json.dumps(value, ensure_ascii=False)}")
        return
    lines = [("SETTING", "VALUE", "FROM")]
    lines += [(name, _in_table(value), effective.origins[name]) for name, value in shown.items()]
    widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
    for name, value, origin in lines:
        click.echo(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {origin}")


def _in_table(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "-" if value == "" else str(value)
