"""
What kustomize and Helm make of a folder: each is run if the developer has it, and no version of ours is brought along.

Both only read and print here: nothing of Helm's releases, and no cluster. Hooks are objects with annotations, which the
agent reads. This module decides what to run and reads the answer; `programs` runs it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fairlead_cli.errors import ManifestInvalid, ProgramMissing
from fairlead_cli.manifest_files import Text
from fairlead_cli.programs import Written, find_program, kept_variables, run_program

KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")
"""Source: kustomize, `konfig.RecognizedKustomizationFileNames`."""
CHART = "Chart.yaml"
PACKED_CHART = ".tgz"

RENDER_SECONDS = 120.0
"""A kustomization may fetch bases from git; rendering itself takes under a second."""

_SOURCE = re.compile(r"^---\n# Source: (?P<file>.+)\n", re.MULTILINE)
"""What `helm template` writes before each object."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ChartOptions:
    """What a chart is rendered with."""

    release: str
    namespace: str
    values: tuple[str, ...] = ()
    """Files, a later one wins."""
    settings: tuple[str, ...] = ()
    """`KEY=VALUE`, before any file."""
    kubernetes_version: str = ""
    """Of the cluster, by which charts choose versions of APIs; empty if nobody knows."""


def kustomization_in(folder: Path) -> Path | None:
    """Return the file that makes a folder a kustomization; None if there is none."""
    return next((folder / name for name in KUSTOMIZATIONS if (folder / name).is_file()), None)


def is_chart(path: Path) -> bool:
    """Tell whether a path is a Helm chart, as a folder or packed."""
    return (path / CHART).is_file() or (path.suffix == PACKED_CHART and path.is_file())


def build_kustomization(folder: str, variables: Mapping[str, str], most_bytes: int, say: Say) -> Iterator[Text]:
    """
    Yield what a kustomization builds.

    Args:
        folder: As the user wrote it; it holds a kustomization.
        variables: The command's environment variables.
        most_bytes: How much it may be.
        say: Tells a person what the program remarked.
    Raises: ProgramMissing: neither kustomize nor kubectl is there. ProgramFailed: it failed. ManifestInvalid: no text.
    """
    program = find_program(("kustomize", "kubectl"), variables)
    if program is None:
        raise ProgramMissing(folder, "a kustomization", "kustomize or kubectl", f"kustomize build {folder}")
    verb = "kustomize" if Path(program).name == "kubectl" else "build"
    written = _run([program, verb, _as_path(folder)], f"{Path(program).name} {verb} {folder}", variables, most_bytes)
    _repeat(written, say)
    found = kustomization_in(Path(folder))
    name = str(Path(folder, found.name)) if found else folder
    yield Text(name, _decoded(written.stdout, name), is_rendered=True)


def render_chart(
    chart: str, options: ChartOptions, variables: Mapping[str, str], most_bytes: int, say: Say
) -> Iterator[Text]:
    """
    Yield what a Helm chart renders, with its CRDs and hooks, without its tests.

    Args:
        chart: Folder or packed chart, as the user wrote it.
        options: Release, namespace, values.
        variables: The command's environment variables.
        most_bytes: How much it may be.
        say: Tells a person what the program remarked.
    Raises: ProgramMissing: helm is not there. ProgramFailed: it failed. ManifestInvalid: what it wrote is no text.
    """
    program = find_program(("helm",), variables)
    if program is None:
        raise ProgramMissing(chart, "a Helm chart", "helm", f"helm template {options.release} {chart}")
    flags = [f"--namespace={options.namespace}", "--include-crds", "--skip-tests"]
    flags += [f"--kube-version={options.kubernetes_version}"] if options.kubernetes_version else []
    flags += [f"--values={file}" for file in options.values]
    flags += [f"--set={setting}" for setting in options.settings]
    argv = [program, "template", *flags, "--", options.release, _as_path(chart)]
    written = _run(argv, f"helm template {options.release} {chart}", variables, most_bytes)
    _repeat(written, say)
    yield from split_chart(_decoded(written.stdout, chart), chart)


def split_chart(rendered: str, chart: str) -> Iterator[Text]:
    """
    Yield the objects of a rendered chart by the template that each came from.

    Args:
        rendered: What `helm template` wrote.
        chart: The chart, put in place of its name before each template's path.
    """
    sources = list(_SOURCE.finditer(rendered))
    if not sources:
        yield Text(chart, rendered, is_rendered=True)
        return
    ends = [source.start() for source in sources[1:]] + [len(rendered)]
    for source, end in zip(sources, ends, strict=True):
        below = source["file"].partition("/")[2] or source["file"]
        yield Text(f"{chart.rstrip('/')}/{below}", rendered[source.end() : end], is_rendered=True)


def _run(argv: list[str], shown: str, variables: Mapping[str, str], most_bytes: int) -> Written:
    return run_program(argv, kept_variables(variables), seconds=RENDER_SECONDS, most_bytes=most_bytes, shown=shown)


def _repeat(written: Written, say: Say) -> None:
    if written.stderr:
        say(written.stderr)


def _as_path(name: str) -> str:
    """Return a name that no program takes for an option, nor helm for a chart of a repository."""
    return name if Path(name).is_absolute() else os.path.join(".", name)  # noqa: PTH118  (Path drops the `./`)


def _decoded(written: bytes, name: str) -> str:
    try:
        return written.decode()
    except UnicodeDecodeError as error:
        raise ManifestInvalid(f"byte {error.start} of what it renders is not UTF-8", file=name) from None
