"""
Leave tests out whose programs take minutes to build and are not built here, and say so: the marker `builds`.

A part of `fixtures.py` for pytest. Must not: be silent, or leave out what costs nothing; a program that many tests
need is built by the first of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from tests.cluster.binaries import binary, expected_seconds, is_built
from tests.cluster.progress import seconds_text
from tests.fault.scale import FULL

if TYPE_CHECKING:
    from collections.abc import Iterator

_LEFT_OUT = pytest.StashKey[dict[str, int]]()
"""Number of tests left out for want of a program, by program."""


class _Worker(Protocol):
    """What is used of xdist's, which has no types: a process that ran tests."""

    config: pytest.Config
    """Configuration of the session that prints the summary."""


def pytest_configure(config: pytest.Config) -> None:
    """Explain the marker `builds`."""
    config.addinivalue_line(
        "markers",
        "builds(program, ...): needs programs that take minutes to build and that no other test needs; left out where"
        " they are not built, except with FAIRLEAD_FAULT=full, which builds them before the test",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """
    Leave out tests whose programs are not built here, except in the full form, which builds them.

    Traefik and metrics-server take ten minutes of two cores together, for two tests: a first run on a fresh machine
    already builds for a quarter of an hour, and has a time limit. Where they are built, their tests cost seconds.
    """
    if FULL:
        return
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    counts = config.stash.setdefault(_LEFT_OUT, {})
    for item in items:
        missing = next((name for name in _programs(item) if not is_built(name)), None)
        (left_out if missing else kept).append(item)
        if missing:
            counts[missing] = counts.get(missing, 0) + 1
    if left_out:
        items[:] = kept
        config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Build what a test is marked with before its time limit runs and before its cluster stands idle."""
    for program in _programs(item):
        binary(program)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that prints the summary what this one left out, where tests run in several."""
    if (told := getattr(session.config, "workeroutput", None)) is not None:
        told["left_out"] = session.config.stash.get(_LEFT_OUT, {})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: _Worker) -> None:
    """Take over what a process left out: each collects all tests, so all say the same."""
    told = getattr(node, "workeroutput", {})
    node.config.stash.setdefault(_LEFT_OUT, {}).update(told.get("left_out", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which tests were left out and what runs them: nobody should have to wonder."""
    for program, count in config.stash.get(_LEFT_OUT, {}).items():
        terminalreporter.write_line(
            f"tests left out because {program} is not built on this machine: {count}; FAIRLEAD_FAULT=full builds it,"
            f" once, in about {seconds_text(expected_seconds(program))}"
        )


def _programs(item: pytest.Item) -> Iterator[str]:
    for marker in item.iter_markers("builds"):
        yield from marker.args
