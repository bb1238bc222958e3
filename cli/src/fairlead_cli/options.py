"""
Arguments and options that several commands have, with one meaning in all of them.

Only click is imported before a command runs: `--help` and completion must answer at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

import click

from fairlead_cli.parameters import (
    DEPLOYMENT,
    PLAIN_FORMATS,
    AddressType,
    DurationType,
    LabelType,
    NameType,
    Output,
    OutputType,
    complete_contexts,
)
from fairlead_cli.terminal import Format, Terminal

_CommandT = TypeVar("_CommandT", bound=Callable[..., Any])

_CONTEXT = "fairlead.context"
"""Key in click's `meta` of what `--context` says."""


@dataclass(frozen=True, slots=True)
class ContentNames:
    """What is to be deployed, as the user named it."""

    names: tuple[str, ...]
    """Of `-f`."""
    values: tuple[str, ...] = ()
    """Files of values for Helm charts, a later one wins."""
    settings: tuple[str, ...] = ()
    """`KEY=VALUE` for Helm charts, before any file."""
    release: str | None = None
    """Release name for Helm charts; None for the application's name."""


@dataclass(frozen=True, slots=True)
class Precedence:
    """Before which others a deployment goes."""

    is_superseding: bool = False
    priority: int = 0

    def fields(self) -> dict[str, object]:
        """Return what a request for a deployment says of it; nothing for what the relay does anyway."""
        said: dict[str, object] = {"on_earlier": "supersede"} if self.is_superseding else {}
        return said | ({"priority": self.priority} if self.priority else {})


@dataclass(frozen=True, slots=True)
class Watching:
    """Whether a deployment is followed to its end, and how long it may take."""

    is_watched: bool = False
    timeout_seconds: float | None = None

    def fields(self) -> dict[str, object]:
        """Return what a request for a deployment says of it: it must not go on for longer than anybody waits."""
        if self.timeout_seconds is None:
            return {}
        return {"wait_seconds": self.timeout_seconds, "deadline_seconds": self.timeout_seconds}


_CONSENTS: Mapping[str, tuple[str, str]] = {
    "adopt": ("--adopt", "Take over objects that are there already, if the cluster's operator allows it."),
    "prune": ("--prune-many", "Delete more of what the environment holds than is deleted unasked."),
    "recreate": ("--recreate", "Delete and make again what cannot be changed in place, if the operator allows it."),
}
"""Consent, as the API calls it → its flag and what that says."""


def examples(*commands: str) -> str:
    """Return the end of a command's help: examples that can be copied, one a line."""
    return "\n".join(["\b", "Examples:" if len(commands) > 1 else "Example:", *(f"  {one}" for one in commands)])


def chosen_context() -> str:
    """Return what `--context` of the command that runs says; empty if it says nothing."""
    context = click.get_current_context(silent=True)
    return str(context.meta.get(_CONTEXT) or "") if context is not None else ""


def _choose_context(ctx: click.Context, _option: click.Parameter, value: str | None) -> None:
    ctx.meta[_CONTEXT] = value


def with_output(command: _CommandT) -> _CommandT:
    """Give a command `-o`, `--quiet`, `--no-color`, `--no-pager`, `--context`; pass it a `terminal` made of them."""

    @wraps(command)
    def run(
        *args: Any,  # noqa: ANN401  (the command's own)
        output: Output,
        quiet: bool,
        no_color: bool,
        no_pager: bool,
        **options: Any,  # noqa: ANN401  (whatever click read)
    ) -> Any:  # noqa: ANN401  (the command's)
        may_colour = not no_color and not os.environ.get("NO_COLOR")
        terminal = Terminal(
            output.format, output.template, is_quiet=quiet, may_colour=may_colour, may_page=not no_pager
        )
        return command(*args, terminal=terminal, **options)

    decorated: Any = run
    for decorate in (
        click.option(
            "--context",
            metavar="NAME",
            expose_value=False,
            callback=_choose_context,
            shell_complete=complete_contexts,
            help="The relay to talk to, as 'fairlead context list' names it.",
        ),
        click.option("--no-pager", is_flag=True, help="Never put a long answer into a pager; PAGER=cat does the same."),
        click.option("--no-color", is_flag=True, help="No colours; NO_COLOR does the same."),
        click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors."),
        click.option(
            "-o",
            "--output",
            type=OutputType(),
            default=Format.TABLE.value,
            show_default=True,
            help=f"Form of the answer: {', '.join(PLAIN_FORMATS)} or jsonpath=TEMPLATE.",
        ),
    ):
        decorated = decorate(decorated)
    return decorated  # type: ignore[no-any-return]  # click's decorators keep the type


def with_content(command: _CommandT) -> _CommandT:
    """Give a command `-f` and the options of Helm charts, and pass it their values as `content`."""

    @wraps(command)
    def run(
        *args: Any,  # noqa: ANN401  (the command's own)
        names: tuple[str, ...],
        values: tuple[str, ...],
        settings: tuple[str, ...],
        release: str | None,
        **options: Any,  # noqa: ANN401  (whatever click read)
    ) -> Any:  # noqa: ANN401  (the command's)
        return command(*args, content=ContentNames(names, values, settings, release), **options)

    decorated: Any = run
    for decorate in (
        click.option("--release-name", "release", type=NameType("release"), help="For charts; default: APP."),
        click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help="For charts: one value."),
        click.option("--values", metavar="FILE", multiple=True, help="For charts: a file of values."),
        click.option(
            "-f",
            "--file",
            "names",
            metavar="FILE|DIR|URL|-",
            multiple=True,
            required=True,
            help="Manifests, a folder of them, a kustomization, a Helm chart, or - for stdin. May be repeated.",
        ),
    ):
        decorated = decorate(decorated)
    return decorated  # type: ignore[no-any-return]  # click's decorators keep the type


def with_watching(command: _CommandT) -> _CommandT:
    """Give a command `--watch` and `--timeout`, and pass it their values as `watching`."""

    @wraps(command)
    def run(
        *args: Any,  # noqa: ANN401  (the command's own)
        is_watched: bool,
        timeout: float | None,
        **options: Any,  # noqa: ANN401  (whatever click read)
    ) -> Any:  # noqa: ANN401  (the command's)
        return command(*args, watching=Watching(is_watched, timeout), **options)

    decorated: Any = run
    for decorate in (
        click.option(
            "--timeout", type=DurationType(), help="How long it may take to become healthy, e.g. 5m; then it fails."
        ),
        click.option(
            "--watch", "-w", "is_watched", is_flag=True, help="Follow it to its end; the exit code says how it went."
        ),
    ):
        decorated = decorate(decorated)
    return decorated  # type: ignore[no-any-return]  # click's decorators keep the type


def with_precedence(command: _CommandT) -> _CommandT:
    """Give a command `--supersede` and `--priority`, and pass it their values as `precedence`."""

    @wraps(command)
    def run(
        *args: Any,  # noqa: ANN401  (the command's own)
        is_superseding: bool,
        priority: int,
        **options: Any,  # noqa: ANN401  (whatever click read)
    ) -> Any:  # noqa: ANN401  (the command's)
        return command(*args, precedence=Precedence(is_superseding, priority), **options)

    decorated: Any = run
    for decorate in (
        click.option(
            "--priority",
            metavar="N",
            type=click.IntRange(-100, 100),
            default=0,
            help="Before others of its agent, if higher: -100 to 100, else 0.",
        ),
        click.option(
            "--supersede",
            "is_superseding",
            is_flag=True,
            help="In place of earlier ones of the environment: they end, and are not waited for.",
        ),
    ):
        decorated = decorate(decorated)
    return decorated  # type: ignore[no-any-return]  # click's decorators keep the type


def with_consents(command: _CommandT) -> _CommandT:
    """Give a command the flags that let a deployment do what it does not do unasked; pass the request's `consents`."""

    @wraps(command)
    def run(
        *args: Any,  # noqa: ANN401  (the command's own)
        **options: Any,  # noqa: ANN401  (whatever click read)
    ) -> Any:  # noqa: ANN401  (the command's)
        given = [name for name in _CONSENTS if options.pop(f"may_{name}")]
        return command(*args, consents={"consents": given} if given else {}, **options)

    decorated: Any = run
    for name, (flag, help_text) in reversed(list(_CONSENTS.items())):
        decorated = click.option(flag, f"may_{name}", is_flag=True, help=help_text)(decorated)
    return decorated  # type: ignore[no-any-return]  # click's decorators keep the type


def with_refresh(command: _CommandT) -> _CommandT:
    """Give a list `--watch` besides the options of `with_output`, and pass it a `listing` made of all of them."""

    @click.option("--watch", "-w", "is_watched", is_flag=True, help="Go on with what changes; Ctrl-C ends it.")
    @with_output
    @wraps(command)
    def run(*args: Any, is_watched: bool, terminal: Terminal, **options: Any) -> Any:  # noqa: ANN401  (whatever click read)
        from fairlead_cli.refreshing import Listing

        return command(*args, listing=Listing(terminal, is_watched), **options)

    decorated: Any = run
    return decorated  # type: ignore[no-any-return]  # click's decorators keep the type


LabelOption = click.option(
    "--label", "labels", type=LabelType(), multiple=True, help="A label it gets, such as team=harbour. May be repeated."
)
SelectorOption = click.option(
    "-l", "--selector", default="", help="Only with such labels: 'team=harbour,tier!=test', 'region in (eu, us)'."
)
DeploymentArgument = click.argument("deployment_id", metavar="DEPLOYMENT", type=DEPLOYMENT)
AddressArgument = click.argument("address", metavar="APP/ENV", type=AddressType())
