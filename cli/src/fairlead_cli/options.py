"""
Arguments and options that several commands have, with one meaning in all of them.

Only click is imported before a command runs: `--help` and completion must answer at once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fairlead_cli.terminal import Format, Terminal

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from fairlead_cli.jsonpath import Template

_CommandT = TypeVar("_CommandT", bound=Callable[..., Any])

_CONTEXT = "fairlead.context"
"""Key in click's `meta` of what `--context` says."""

_PLAIN_FORMATS = tuple(form.value for form in Format if form is not Format.JSONPATH)

_UNITS = {"s": 1, "m": 60, "h": 3600}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smh]?)")
_LIFE_UNITS = _UNITS | {"d": 86_400, "w": 7 * 86_400}
_LIFE = re.compile(r"(\d{1,9})([smhdw])")
MIN_LIFE_SECONDS, MAX_LIFE_SECONDS = 60.0, 3660 * 86_400.0
"""As the relay has them."""
MAX_TIMEOUT_SECONDS = 86_400.0
"""A day; the longest that an agent waits."""


@dataclass(frozen=True, slots=True)
class EnvironmentAddress:
    """`APPLICATION/ENVIRONMENT`."""

    application: str
    environment: str

    def __str__(self) -> str:
        return f"{self.application}/{self.environment}"


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
class Output:
    """What `-o` asks for."""

    format: Format
    template: Template | None = None


class OutputType(click.ParamType[Output]):
    """The type of `-o`."""

    name = "FORM"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Output:  # noqa: ANN401
        """Return the form, with its template, or end with a usage error."""
        if isinstance(value, Output):
            return value
        if value in _PLAIN_FORMATS:
            return Output(Format(value))
        form, equals, source = value.partition("=")
        if form != Format.JSONPATH or not equals:
            self.fail(f"{value!r} is none of {', '.join(_PLAIN_FORMATS)} and jsonpath=TEMPLATE", param, ctx)
        from fairlead_cli.jsonpath import TemplateInvalid, parse_template

        try:
            return Output(Format.JSONPATH, parse_template(source))
        except TemplateInvalid as error:
            self.fail(str(error), param, ctx)

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002  (click's signature)
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """Return the forms that begin so."""
        from click.shell_completion import CompletionItem

        forms = [*_PLAIN_FORMATS, f"{Format.JSONPATH}="]
        return [CompletionItem(form) for form in forms if form.startswith(incomplete)]


class NameType(click.ParamType[str]):
    """A name by the naming rules; anything else would end up in a URL."""

    def __init__(self, what: str) -> None:
        self.name = what

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401
        """Return the name, or end with a usage error."""
        from fairlead_shared.errors import NameInvalid
        from fairlead_shared.identity import check_name

        try:
            return check_name(self.name, value)
        except NameInvalid as error:
            self.fail(str(error), param, ctx)

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002  (click's signature)
        incomplete: str,
    ) -> list[CompletionItem]:
        """Return the names that are there and begin so."""
        return _live_items(self.name, ctx, incomplete)


class AddressType(click.ParamType[EnvironmentAddress]):
    """The type of `APP/ENV` arguments."""

    name = "APP/ENV"

    def convert(
        self,
        value: Any,  # noqa: ANN401  (click's signature)
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> EnvironmentAddress:
        """Return the address, or end with a usage error."""
        if isinstance(value, EnvironmentAddress):
            return value
        application, slash, environment = value.partition("/")
        if not slash:
            self.fail(f"{value!r} must be APPLICATION/ENVIRONMENT, for example shop/staging", param, ctx)
        return EnvironmentAddress(
            NameType("application").convert(application, param, ctx),
            NameType("environment").convert(environment, param, ctx),
        )

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002  (click's signature)
        incomplete: str,
    ) -> list[CompletionItem]:
        """Return the environments that are there and begin so."""
        return _live_items(self.name, ctx, incomplete)


def _live_items(kind: str, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from fairlead_cli.completing import complete

    return [CompletionItem(name) for name in complete(kind, ctx, incomplete)]


def complete_contexts(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the stored contexts that begin so."""
    from fairlead_cli.completing import contexts

    return contexts(incomplete)


class DeploymentIdType(click.ParamType[str]):
    """The id of a deployment."""

    name = "DEPLOYMENT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401
        """Return the id, or end with a usage error."""
        from fairlead_shared.errors import NameInvalid
        from fairlead_shared.identity import check_id

        try:
            return check_id("deployment", value)
        except NameInvalid as error:
            self.fail(f"{error}; 'fairlead deployments list APP/ENV' shows them", param, ctx)


class JobIdType(click.ParamType[str]):
    """The id of a job."""

    name = "JOB"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401
        """Return the id, or end with a usage error."""
        from fairlead_shared.errors import NameInvalid
        from fairlead_shared.identity import check_id

        try:
            return check_id("job", value)
        except NameInvalid as error:
            self.fail(f"{error}; 'fairlead jobs list' shows them", param, ctx)


class DurationType(click.ParamType[float]):
    """A length of time such as `90`, `90s`, `5m` or `1h`, in seconds."""

    name = "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401
        """Return seconds, or end with a usage error."""
        if isinstance(value, float):
            return value
        match = _DURATION.fullmatch(value)
        seconds = float(match[1]) * _UNITS[match[2] or "s"] if match else 0.0
        if not 1 <= seconds <= MAX_TIMEOUT_SECONDS:
            self.fail(f"{value!r} must be a duration such as 90s, 5m or 1h, from 1s to 24h", param, ctx)
        return seconds


class LifeType(click.ParamType[float | None]):
    """How long something is good for: `12h`, `90d`, or `never`, which is None."""

    name = "LIFE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:  # noqa: ANN401
        """Return seconds, or end with a usage error."""
        if value == "never" or isinstance(value, float):
            return None if value == "never" else value
        match = _LIFE.fullmatch(value)
        seconds = float(match[1]) * _LIFE_UNITS[match[2]] if match else 0.0
        if not MIN_LIFE_SECONDS <= seconds <= MAX_LIFE_SECONDS:
            self.fail(
                f"{value!r} must be a length of time such as 30m, 12h or 90d, up to ten years, or never", param, ctx
            )
        return seconds


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
        **options: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
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
            help=f"Form of the answer: {', '.join(_PLAIN_FORMATS)} or jsonpath=TEMPLATE.",
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
        **options: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
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


def with_precedence(command: _CommandT) -> _CommandT:
    """Give a command `--supersede` and `--priority`, and pass it their values as `precedence`."""

    @wraps(command)
    def run(
        *args: Any,  # noqa: ANN401  (the command's own)
        is_superseding: bool,
        priority: int,
        **options: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        return command(*args, precedence=Precedence(is_superseding, priority), **options)

    decorated: Any = run
    for decorate in (
        click.option(
            "--priority", type=click.IntRange(-100, 100), default=0, help="Before others of its agent, if higher; 0."
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


def with_refresh(command: _CommandT) -> _CommandT:
    """Give a list `--watch` besides the options of `with_output`, and pass it a `listing` made of all of them."""

    @click.option("--watch", "-w", "is_watched", is_flag=True, help="Go on with what changes; Ctrl-C ends it.")
    @with_output
    @wraps(command)
    def run(*args: Any, is_watched: bool, terminal: Terminal, **options: Any) -> Any:  # noqa: ANN401
        from fairlead_cli.refreshing import Listing

        return command(*args, listing=Listing(terminal, is_watched), **options)

    decorated: Any = run
    return decorated  # type: ignore[no-any-return]  # click's decorators keep the type


DeploymentArgument = click.argument("deployment_id", metavar="DEPLOYMENT", type=DeploymentIdType())
AddressArgument = click.argument("address", metavar="APP/ENV", type=AddressType())
