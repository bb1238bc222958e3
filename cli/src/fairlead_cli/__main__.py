"""
The `fairlead` command: finds the subcommand, runs it, turns errors into one sentence and an exit code.

A subcommand is imported when it is asked for, and imports what it needs when it runs, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, MutableMapping, Sequence
from importlib import import_module
from typing import Any

import click

from fairlead_cli.errors import ApiError, CliError, ExitCode
from fairlead_cli.terminal import Terminal

NAMES = (
    "agent",
    "api",
    "app",
    "audit",
    "cluster",
    "completion",
    "context",
    "deploy",
    "deployments",
    "diff",
    "drift",
    "env",
    "events",
    "jobs",
    "label",
    "login",
    "org",
    "rollback",
    "status",
    "token",
    "version",
)
"""The commands; each is in the module of `commands` of its name, but for those of MODULES."""

MODULES = {"token": "tokens"}
"""Command → module, where the standard library has one of its name."""

EPILOG = """
\b
First steps:
  fairlead login https://relay.example.com:7443 --ca-file ca.pem < token
  fairlead cluster create prod
  fairlead app create shop
  fairlead env create shop/staging --type staging --cluster prod --namespace shop
  fairlead deploy -f k8s/ --env shop/staging --watch

\b
Exit codes: 0 ok, 1 error, 2 usage, 3 deployment cancelled or time limit
reached, 4 not authorised, 5 deployment failed, 6 superseded, 8 still pending,
130 interrupted. diff: 0 no changes, 1 changes, 2 or more an error; and so
drift --exit-code.
"""


class Commands(MutableMapping[str, click.Command]):
    """The subcommands by name, each imported when it is asked for."""

    def __init__(self) -> None:
        self._known: dict[str, click.Command | None] = dict.fromkeys(NAMES)

    def __getitem__(self, name: str) -> click.Command:
        command = self._known[name] or getattr(import_module(f"fairlead_cli.commands.{MODULES.get(name, name)}"), name)
        assert isinstance(command, click.Command)  # noqa: S101  (what NAMES says of each module)
        self._known[name] = command
        return command

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._known[name] = command

    def __delitem__(self, name: str) -> None:
        del self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


class Fairlead(click.Group):
    """The root command; `main` of click would end with 1 where the reader of a pipe has seen enough."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401  (click's signature)
        """Run the subcommand, and return its exit code if it has one."""
        try:
            return super().invoke(ctx)
        except ApiError as error:
            if error.code == "not_found":
                error.remedy = _suggestion(error.path)
            raise
        except BrokenPipeError:
            # Without this, Python complains once more when it closes stdout.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return ExitCode.READER_GONE


def _suggestion(path: str) -> str:
    from fairlead_cli.connecting import connect
    from fairlead_cli.suggestions import suggest

    with connect() as client:
        return suggest(client, path)


def _print_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:  # noqa: FBT001  (click's call)
    if wanted and not ctx.resilient_parsing:
        from fairlead_cli import __version__

        click.echo(f"fairlead {__version__}")
        ctx.exit()


@click.group(cls=Fairlead, commands=Commands(), epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Show the version."
)
def fairlead() -> None:
    """Deploy to private Kubernetes clusters: their agents dial out, nothing dials in."""


def run(arguments: Sequence[str]) -> int:
    """
    Run the command.

    Args:
        arguments: Those after the program's name.
    Returns: The exit code.
    """
    terminal = Terminal(may_colour=not os.environ.get("NO_COLOR") and "--no-color" not in arguments)
    try:
        ended = fairlead.main(args=list(arguments), prog_name="fairlead", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return ExitCode.USAGE
    except click.ClickException as error:
        error.show()
        return ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except CliError as error:
        terminal.fail(str(error))
        return error.exit_code
    return ended if isinstance(ended, int) else ExitCode.OK


def main() -> None:
    """Run the command of this process, and end it."""
    # httpx imports a command line of its own, and with it rich and pygments: half of what httpx takes. It goes without
    # if that cannot be imported, and None is how Python is told so. Only in our own process: the SDK changes nothing.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # typeshed knows no None there
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
