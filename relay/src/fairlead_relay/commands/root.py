"""The root command: names the groups, and turns every expected failure into one sentence and an exit code."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Final

import click

from fairlead_relay import __version__

_COMMANDS: Final = {
    "serve": ("serve", "serve", "Run the relay."),
    "migrate": ("migrate", "migrate", "Bring the database up to date, then end."),
    "token": ("tokens", "token", "Create tokens for people and CI."),
    "ca": ("authority", "authority", "Show and change the certificate authority."),
    "backup": ("backup", "backup", "Write everything the relay has into one file, while it serves."),
    "restore": ("backup", "restore", "Put a backup back."),
    "gc": ("collection", "gc", "Forget old history now."),
    "doctor": ("doctor", "doctor", "Say what is wrong with a relay and what to do."),
    "config": ("configuration", "config", "Show the settings in force."),
}
"""Name → (module, attribute, short help): `--help` need not import them."""


class _LazyGroup(click.Group):
    """Imports a command when it runs, and renders the relay's errors."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's signature)
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module, attribute, _ = _COMMANDS[cmd_name]
        command = getattr(importlib.import_module(f"fairlead_relay.commands.{module}"), attribute)
        assert isinstance(command, click.Command)  # noqa: S101  (the table above is ours)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401  (click's signature)
        from fairlead_relay.errors import RelayError  # noqa: PLC0415  (--help does without it)

        try:
            return super().invoke(ctx)
        except RelayError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file of settings.  [default: what FAIRLEAD_RELAY_CONFIG_FILE names, if anything]",
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli(config: Path | None) -> None:
    """
    Run and administer a Fairlead relay.

    Settings come from flags, else from FAIRLEAD_RELAY_… in the environment, such as FAIRLEAD_RELAY_DATA_DIR, else from
    the file of --config. 'fairlead-relay config show' lists them, and where each came from.
    Exit codes: 0 done, 1 it failed (one sentence says why), 2 wrong usage.
    """
