"""
Where settings come from: flags, else the environment, else a TOML file, else the defaults; and who said what.

A name that no setting has is an error wherever it stands: a misspelt limit must not be a limit that is silently not
there. Must not decide what a value may be; settings.py does.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from fairlead_relay.errors import SettingsInvalid
from fairlead_relay.settings import Settings

PREFIX: Final = "FAIRLEAD_RELAY_"
CONFIG_FILE: Final = f"{PREFIX}CONFIG_FILE"
"""Names the file, where no flag does."""
_LARGEST_FILE_BYTES: Final = 1 << 20
_AGENTS: Final = {f"{PREFIX}URL"}
"""The agent's own variable for the relay it dials; on a developer's machine both programs see it."""
_OF_KUBERNETES: Final = re.compile(rf"{PREFIX}(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT\w*|PORT(?:_\d+_(?:TCP|UDP)\w*)?)")
"""
What the kubelet sets in each pod for a Service whose name begins with fairlead-relay.
Source: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
"""


@dataclass(frozen=True, slots=True)
class EffectiveSettings:
    """The settings in force, and where each came from."""

    settings: Settings
    origins: Mapping[str, str]
    """Setting → `--flag`, `$VARIABLE`, `FILE, line N` or `default`."""


def resolve_settings(
    flags: Mapping[str, object], environment: Mapping[str, str] | None = None, config_file: Path | None = None
) -> EffectiveSettings:
    """
    Put the settings together.

    Args:
        flags: Setting → value of its flag; None where it was not given.
        environment: Variables; None for the process's own.
        config_file: The file that a flag names; None for the one that the environment names, if any.

    Raises: SettingsInvalid: an unknown name, a value that does not fit, or a file that cannot be read.

    """
    variables = os.environ if environment is None else environment
    file = config_file or (Path(variables[CONFIG_FILE]) if variables.get(CONFIG_FILE) else None)
    values: dict[str, object] = {}
    origins = dict.fromkeys(Settings.model_fields, "default")
    for given, origins_of_given in (_of_file(file), _of_environment(variables), _of_flags(flags)):
        values |= given
        origins |= origins_of_given
    try:
        return EffectiveSettings(Settings.model_validate(values), origins)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        origin = origins[str(first["loc"][0])] if first["loc"] else "settings"
        raise SettingsInvalid(origin, first["msg"].removeprefix("Value error, ")) from None


_Given = tuple[dict[str, object], dict[str, str]]
"""Values and origins."""


def _of_flags(flags: Mapping[str, object]) -> _Given:
    given = {name: value for name, value in flags.items() if value is not None}
    return given, {name: f"--{name.replace('_', '-')}" for name in given}


def _of_environment(variables: Mapping[str, str]) -> _Given:
    given: dict[str, object] = {}
    for variable in sorted(variables):
        if not variable.startswith(PREFIX) or variable in {CONFIG_FILE, *_AGENTS} or _OF_KUBERNETES.fullmatch(variable):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name not in Settings.model_fields or variable != variable.upper():
            near = [f"{PREFIX}{known.upper()}" for known in Settings.model_fields]
            raise SettingsInvalid(f"${variable}", _unknown(variable.upper(), near))
        given[name] = variables[variable]
    return given, {name: f"${PREFIX}{name.upper()}" for name in given}


def _of_file(file: Path | None) -> _Given:
    if file is None:
        return {}, {}
    try:
        with file.open("rb") as source:
            content = source.read(_LARGEST_FILE_BYTES + 1)
        if len(content) > _LARGEST_FILE_BYTES:
            raise SettingsInvalid(str(file), "it is larger than 1 MiB; this is no file of settings")
        text = content.decode()
        given = tomllib.loads(text)
    except OSError as error:
        raise SettingsInvalid(str(file), f"it cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsInvalid(str(file), "it is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsInvalid(str(file), f"it is no TOML: {error}") from None
    places = {name: _place(file, text, name) for name in given}
    for name in given:
        if name not in Settings.model_fields:
            raise SettingsInvalid(places[name], _unknown(name, list(Settings.model_fields)))
    return given, places


def _place(file: Path, text: str, name: str) -> str:
    """Return file and line of a setting; the parser keeps no lines."""
    key = re.compile(rf"""\s*\[?\s*["']?{re.escape(name)}["']?\s*[=.\]]""")
    for number, line in enumerate(text.splitlines(), start=1):
        if key.match(line):
            return f"{file}, line {number}"
    return str(file)


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else "'fairlead-relay config show' lists them"
    return f"there is no setting {name[:100]}; {hint}"
