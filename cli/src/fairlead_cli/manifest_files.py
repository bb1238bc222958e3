"""
Finds and reads manifests: files, folders with all below them, standard input.

Order is by name, so that the same folder gives the same errors everywhere. This module reads text and knows no YAML.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple, TextIO

from fairlead_cli.errors import ManifestInvalid

SUFFIXES = (".yaml", ".yml", ".json")
STANDARD_INPUT = "-"
STANDARD_INPUT_NAME = "<stdin>"

_INSTRUCTIONS = {
    "Chart.yaml": "a Helm chart",
    "kustomization.yaml": "a kustomization",
    "kustomization.yml": "a kustomization",
    "Kustomization": "a kustomization",
}


class Text(NamedTuple):
    """One text with objects in it."""

    name: str
    """File that it is, or was made from; errors and origins name it."""
    text: str
    is_rendered: bool = False
    """Whether a program made it: its lines are then not those of the file."""


def find_files(name: str) -> list[str]:
    """
    List the files that a name means: itself, or the manifests of a folder and all below it.

    Raises: ManifestInvalid: nothing is there, no manifest is, or what is there must be rendered as a whole.
    """
    if name == STANDARD_INPUT:
        return [name]
    path = Path(name)
    if not path.exists():
        raise ManifestInvalid("there is no such file or folder", file=name)
    if not path.is_dir():
        return [name]
    found: list[str] = []
    for folder, below, files in os.walk(path):
        below.sort()
        for file in sorted(files):
            if file in _INSTRUCTIONS:
                reason = f"the folder holds {_INSTRUCTIONS[file]}; name it by itself: -f {folder}"
                raise ManifestInvalid(reason, file=os.path.join(folder, file))  # noqa: PTH118  (as the user wrote it)
            if file.endswith(SUFFIXES):
                found.append(os.path.join(folder, file))  # noqa: PTH118  (names stay as the user wrote them: `./a.yaml`)
    if not found:
        raise ManifestInvalid(f"the folder holds no {', '.join(SUFFIXES)} file", file=name)
    return sorted(found)


def read_file(file: str, standard_input: TextIO, most_characters: int) -> Text:
    """
    Read one file, or standard input.

    Args:
        file: As `find_files` named it.
        standard_input: Where `-` is read from.
        most_characters: At least one more than these is read if there are more, so that the caller sees it.
    Raises: ManifestInvalid: it cannot be read, or is not UTF-8.
    """
    name = STANDARD_INPUT_NAME if file == STANDARD_INPUT else file
    try:
        if file == STANDARD_INPUT:
            return Text(name, standard_input.read(most_characters + 1))
        with Path(file).open(encoding="utf-8-sig") as stream:
            return Text(name, stream.read(most_characters + 1))
    except UnicodeDecodeError as error:
        raise ManifestInvalid(f"byte {error.start} is not UTF-8; manifests are UTF-8 text", file=name) from None
    except OSError as error:
        raise ManifestInvalid(f"cannot be read: {error.strerror}", file=name) from error
