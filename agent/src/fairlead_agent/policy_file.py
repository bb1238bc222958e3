"""
The policy file: parsed strictly, with the line in every complaint, and read again when it changed.

A changed file that cannot be used leaves the last good policy in force and says so in the log: a slip of the operator
must not open the cluster, nor stop what was allowed.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from fairlead_agent.errors import PolicyInvalid
from fairlead_agent.logs import Logger
from fairlead_agent.policy import Policy

MAX_POLICY_BYTES = 512 * 1024
"""A ConfigMap holds at most 1 MiB; thousands of bindings fit in half."""

_Location = tuple[int | str, ...]


def parse_policy(text: str, file: str) -> Policy:
    """
    Parse the text of a policy file.

    Args:
        text: YAML, one document, no aliases.
        file: Its name, for errors.
    Raises: PolicyInvalid: no YAML, an unknown key, or a value that is not allowed; names the line.
    """
    if len(text.encode()) > MAX_POLICY_BYTES:
        raise PolicyInvalid(file, None, f"it is larger than {MAX_POLICY_BYTES:,} bytes")
    reader = _Reader(text, file)
    content = reader.read()
    try:
        return Policy.model_validate({} if content is None else content)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        # A misspelt key is also a missing one: the misspelling is the mistake.
        first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
        location = first["loc"]
        raise PolicyInvalid(
            file, _line_of(location, reader.lines), _sentence(first["type"], location, first["msg"])
        ) from None


class PolicyFile:
    """
    The policy in force.

    Args:
        path: The file; on Kubernetes a link into a ConfigMap volume, which is replaced as a whole.
        logger: For what a changed file brought.
    Raises: PolicyInvalid: the file cannot be read or used.
    """

    def __init__(self, path: Path, logger: Logger) -> None:
        self._path = path
        self._logger = logger
        self._seen = self._mark()
        self._policy = self._load()

    @property
    def current(self) -> Policy:
        """The policy, after a look whether the file changed: one stat per job is cheaper than a watch."""
        mark = self._mark()
        if mark != self._seen:
            self._seen = mark
            try:
                self._policy = self._load()
            except PolicyInvalid as error:
                self._logger.warning("policy.invalid", error=str(error), kept="the policy read before stays in force")
            else:
                self._logger.info("policy.reloaded", file=str(self._path))
        return self._policy

    def _mark(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return (status.st_ino, status.st_mtime_ns, status.st_size)

    def _load(self) -> Policy:
        try:
            text = self._path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "it is no UTF-8 text"
            raise PolicyInvalid(str(self._path), None, f"cannot be read: {reason}") from None
        return parse_policy(text, str(self._path))


class _Reader:
    """Turns the YAML of one file into plain values and remembers where each stood."""

    def __init__(self, text: str, file: str) -> None:
        self.lines: dict[_Location, int] = {}
        self._text = text
        self._file = file
        self._visited: set[int] = set()

    def read(self) -> Any:  # noqa: ANN401  (whatever YAML held)
        loader = yaml.SafeLoader(self._text)
        try:
            node = loader.get_single_node()
            return None if node is None else self._plain(loader, node, ())
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else None
            raise PolicyInvalid(self._file, line, f"no valid YAML: {error.problem}") from None
        except yaml.YAMLError as error:
            raise PolicyInvalid(self._file, None, f"no valid YAML: {str(error).splitlines()[0]}") from None
        except RecursionError:
            raise PolicyInvalid(self._file, None, "it is nested too deeply") from None
        finally:
            loader.dispose()

    def _plain(self, loader: yaml.SafeLoader, node: yaml.Node, location: _Location) -> Any:  # noqa: ANN401
        line = node.start_mark.line + 1
        self.lines.setdefault(location, line)
        if isinstance(node, yaml.ScalarNode):
            return loader.construct_object(node)
        # An alias is the same node again; a few lines of them expand to gigabytes.
        if id(node) in self._visited:
            raise PolicyInvalid(self._file, line, "YAML aliases are not allowed")
        self._visited.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(loader, child, (*location, number)) for number, child in enumerate(node.value)]
        content: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            self.lines[*location, key] = key_node.start_mark.line + 1
            if key in content:
                raise PolicyInvalid(self._file, key_node.start_mark.line + 1, f"key {key!r} occurs twice")
            content[key] = self._plain(loader, value_node, (*location, key))
        return content


def _line_of(location: tuple[int | str, ...], lines: dict[_Location, int]) -> int | None:
    """Return the line of a location, or of the nearest part around it (pydantic adds names of its own)."""
    for length in range(len(location), 0, -1):
        if location[:length] in lines:
            return lines[location[:length]]
    return None


def _sentence(kind: str, location: tuple[int | str, ...], message: str) -> str:
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    if kind == "extra_forbidden":
        return f"{where}: unknown key{_suggestion(location)}"
    if kind == "missing":
        return f"{where}: is missing"
    return f"{where}: {message}".removeprefix(": ").replace("Value error, ", "")


def _suggestion(location: tuple[int | str, ...]) -> str:
    model: Any = Policy
    for part in location[:-1]:
        if isinstance(part, str) and isinstance(model, type) and issubclass(model, BaseModel):
            field = next((field for field in model.model_fields.values() if field.alias == part), None)
            model = None if field is None else _element(field.annotation)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return ""
    keys = [str(field.alias) for field in model.model_fields.values()]
    close = difflib.get_close_matches(str(location[-1]), keys, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; known here: {', '.join(keys)}"


def _element(annotation: Any) -> Any:  # noqa: ANN401  (a type expression)
    """Return the model inside `tuple[Model, ...]` or `Mapping[str, Model]`."""
    models = [
        argument for argument in get_args(annotation) if isinstance(argument, type) and issubclass(argument, BaseModel)
    ]
    return models[0] if models else annotation
