"""
Types of arguments and options: what people type, checked, and completed where the shell asks.

A mistake is a usage error before anything is sent. Only click is imported before a value is converted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from fairlead_cli.terminal import Format

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from fairlead_cli.jsonpath import Template

PLAIN_FORMATS = tuple(form.value for form in Format if form is not Format.JSONPATH)

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
class Output:
    """What `-o` asks for."""

    format: Format
    template: Template | None = None


class OutputType(click.ParamType[Output]):
    """The type of `-o`."""

    name = "FORM"

    def convert(
        self,
        value: Any,  # noqa: ANN401  (click's signature)
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Output:
        """Return the form, with its template, or end with a usage error."""
        if isinstance(value, Output):
            return value
        if value in PLAIN_FORMATS:
            return Output(Format(value))
        form, equals, source = value.partition("=")
        if form != Format.JSONPATH or not equals:
            self.fail(f"{value!r} is none of {', '.join(PLAIN_FORMATS)} and jsonpath=TEMPLATE", param, ctx)
        from fairlead_cli.jsonpath import TemplateInvalid, parse_template

        try:
            return Output(Format.JSONPATH, parse_template(source))
        except TemplateInvalid as error:
            self.fail(str(error), param, ctx)

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002  (click's signature)
        param: click.Parameter,  # noqa: ARG002  (click's signature)
        incomplete: str,
    ) -> list[CompletionItem]:
        """Return the forms that begin so."""
        from click.shell_completion import CompletionItem

        forms = [*PLAIN_FORMATS, f"{Format.JSONPATH}="]
        return [CompletionItem(form) for form in forms if form.startswith(incomplete)]


class NameType(click.ParamType[str]):
    """A name by the naming rules; anything else would end up in a URL."""

    def __init__(self, what: str) -> None:
        self.name = what

    def convert(
        self,
        value: Any,  # noqa: ANN401  (click's signature)
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str:
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

    return [CompletionItem(name, help=word or None) for name, word in complete(kind, ctx, incomplete)]


def complete_contexts(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the stored contexts that begin so."""
    from fairlead_cli.completing import contexts

    return contexts(incomplete)


class IdType(NameType):
    """
    The id of a deployment or a job.

    Args:
        kind: Of what.
        listing: The command that shows them.
    """

    def __init__(self, kind: str, listing: str) -> None:
        super().__init__(kind.upper())
        self._kind = kind
        self._listing = listing

    def convert(
        self,
        value: Any,  # noqa: ANN401  (click's signature)
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str:
        """Return the id, or end with a usage error."""
        from fairlead_shared.errors import NameInvalid
        from fairlead_shared.identity import check_id

        try:
            return check_id(self._kind, value)
        except NameInvalid as error:
            self.fail(f"{error}; '{self._listing}' shows them", param, ctx)


DEPLOYMENT = IdType("deployment", "fairlead deployments list APP/ENV")
JOB = IdType("job", "fairlead jobs list")


class LabelType(click.ParamType[tuple[str, str]]):
    """`KEY=VALUE`; what each may be is Kubernetes' rule, which the relay knows."""

    name = "KEY=VALUE"

    def convert(
        self,
        value: Any,  # noqa: ANN401  (click's signature)
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[str, str]:
        """Return key and value, or end with a usage error."""
        if isinstance(value, tuple):
            return value
        key, equals, text = value.partition("=")
        if not key or not equals:
            self.fail(f"{value!r} must be KEY=VALUE, for example team=harbour", param, ctx)
        return key, text


class LabelChangeType(click.ParamType[tuple[str, str | None]]):
    """`KEY=VALUE`, or `KEY-` which removes the label."""

    name = "KEY=VALUE|KEY-"

    def convert(
        self,
        value: Any,  # noqa: ANN401  (click's signature)
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[str, str | None]:
        """Return the key, and the value or None, or end with a usage error."""
        if isinstance(value, tuple):
            return value
        if "=" not in value and len(value) > 1 and value.endswith("-"):
            return value[:-1], None
        return LabelType().convert(value, param, ctx)


class DurationType(click.ParamType[float]):
    """A length of time such as `90`, `90s`, `5m` or `1h`, in seconds."""

    name = "DURATION"

    def convert(
        self,
        value: Any,  # noqa: ANN401  (click's signature)
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
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

    def convert(
        self,
        value: Any,  # noqa: ANN401  (click's signature)
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float | None:
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
