"""
Finds what `-f` names: files, folders with all below them, standard input.

Order is by name, so that the same folder gives the same errors everywhere. This module reads text and knows no YAML.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from fairlead_cli.errors import ManifestInvalid

SUFFIXES = (".yaml", ".yml", ".json")
STANDARD_INPUT = "-"
STANDARD_INPUT_NAME = "<stdin>"
MAX_INPUT_CHARACTERS = 64 * 1024 * 1024
"""Of all files together: four times what a bundle holds, since YAML has comments and indentation."""


def read_files(names: Sequence[str], standard_input: TextIO) -> Iterator[tuple[str, str]]:
    """
    Read the text of everything named, a file named twice only once.

    Args:
        names: Files, folders and `-`, as the user wrote them.
        standard_input: Where `-` is read from.
    Returns: Pairs of file name, for errors, and text.
    Raises: ManifestInvalid: missing, unreadable, not UTF-8, a folder without manifests, or too much.
    """
    seen: set[Path | str] = set()
    left = MAX_INPUT_CHARACTERS
    for name in names:
        for file in _files(name):
            identity = file if file == STANDARD_INPUT else Path(file).resolve()
            if identity in seen:
                continue
            seen.add(identity)
            text = _text(file, standard_input, left)
            left -= len(text)
            yield (STANDARD_INPUT_NAME if file == STANDARD_INPUT else file), text


def _files(name: str) -> list[str]:
    if name == STANDARD_INPUT:
        return [name]
    path = Path(name)
    if not path.exists():
        raise ManifestInvalid("there is no such file or folder", file=name)
    if not path.is_dir():
        return [name]
    found = [
        os.path.join(folder, file)  # noqa: PTH118  (names stay as the user wrote them: `./k8s/web.yaml`)
        for folder, _, files in os.walk(path)
        for file in files
        if file.endswith(SUFFIXES)
    ]
    if not found:
        raise ManifestInvalid(f"the folder holds no {', '.join(SUFFIXES)} file", file=name)
    return sorted(found)


def _text(file: str, standard_input: TextIO, limit: int) -> str:
    name = STANDARD_INPUT_NAME if file == STANDARD_INPUT else file
    try:
        if file == STANDARD_INPUT:
            text = standard_input.read(limit + 1)
        else:
            with Path(file).open(encoding="utf-8-sig") as stream:
                text = stream.read(limit + 1)
    except UnicodeDecodeError as error:
        raise ManifestInvalid(f"byte {error.start} is not UTF-8; manifests are UTF-8 text", file=name) from None
    except OSError as error:
        raise ManifestInvalid(f"cannot be read: {error.strerror}", file=name) from error
    if len(text) > limit:
        raise ManifestInvalid(f"all input together has more than {MAX_INPUT_CHARACTERS:,} characters", file=name)
    return text
