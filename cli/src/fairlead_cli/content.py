"""
Reads all that `-f` names: files, folders, standard input, URLs, kustomizations and Helm charts.

This module decides which of them a name is and keeps them together below one limit; how each is read is its own
module's business.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from fairlead_cli.downloads import fetch, is_url, shown_url
from fairlead_cli.errors import ChartMissing, ManifestInvalid
from fairlead_cli.manifest_files import STANDARD_INPUT, Text, find_files, read_file
from fairlead_cli.options import ContentNames
from fairlead_cli.rendering import ChartOptions, Say, build_kustomization, is_chart, kustomization_in, render_chart

MAX_INPUT_CHARACTERS = 64 * 1024 * 1024
"""Of everything together: four times what a bundle holds, since YAML has comments and indentation."""


def chart_options(
    content: ContentNames, application: str, namespace: str, kubernetes_version: Callable[[], str]
) -> ChartOptions:
    """
    Return what charts are rendered with.

    Args:
        content: What the user named.
        application: Names the release if the user does not.
        namespace: The environment's.
        kubernetes_version: Asks for the cluster's, if there is a chart; empty if nobody knows.
    Raises: ChartMissing: there are options for charts, and no chart.
    """
    release = content.release or application
    if not any(is_chart(Path(name)) for name in content.names):
        if content.values or content.settings or content.release:
            raise ChartMissing(content.names)
        return ChartOptions(release, namespace)
    return ChartOptions(release, namespace, content.values, content.settings, kubernetes_version())


def read_content(names: Sequence[str], standard_input: TextIO, chart: ChartOptions, say: Say) -> Iterator[Text]:
    """
    Read the text of everything named, what is named twice only once.

    Args:
        names: As the user wrote them.
        standard_input: Where `-` is read from.
        chart: What Helm charts are rendered with.
        say: Tells a person what a program remarked.
    Raises: ManifestInvalid: missing, unreadable, not UTF-8, a folder without manifests, or too much.
        ProgramMissing, ProgramFailed: a chart or a kustomization cannot be rendered.
    """
    seen: set[str] = set()
    left = MAX_INPUT_CHARACTERS
    for name in names:
        for text in _texts(name, standard_input, chart, left, seen, say):
            left -= len(text.text)
            if left < 0:
                reason = f"all input together has more than {MAX_INPUT_CHARACTERS:,} characters"
                raise ManifestInvalid(reason, file=text.name)
            yield text


def _texts(
    name: str, standard_input: TextIO, chart: ChartOptions, left: int, seen: set[str], say: Say
) -> Iterator[Text]:
    if is_url(name):
        if _is_new(name, seen):
            yield Text(shown_url(name), fetch(name, left))
        return
    path = Path(name)
    if name != STANDARD_INPUT and (is_chart(path) or (path.is_dir() and kustomization_in(path))):
        if not _is_new(os.path.realpath(name), seen):
            return
        if is_chart(path):
            yield from render_chart(name, chart, os.environ, left, say)
        else:
            yield from build_kustomization(name, os.environ, left, say)
        return
    for file in find_files(name):
        if _is_new(file if file == STANDARD_INPUT else os.path.realpath(file), seen):
            yield read_file(file, standard_input, left)


def _is_new(identity: str, seen: set[str]) -> bool:
    is_new = identity not in seen
    seen.add(identity)
    return is_new
