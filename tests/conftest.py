"""
What holds for every test: the order of the folders, time limits, and how Hypothesis explores.

Fixtures do not belong here: they live beside what they make, as those of real clusters do.
"""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling

from tests.polling import PATIENCE_SECONDS

pytest_plugins = ["tests.cluster.fixtures"]

# A shell that starts a run in the background has it ignore SIGINT, and so would every program that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

TESTS = Path(__file__).parent

FOLDERS = (
    "repository",
    "unit",
    "property",
    "conformance",
    "integration",
    "charts",
    "install",
    "product",
    "fault",
    "cluster_tests",
    "e2e",
)
"""
Order of a full run in one process: what fails within seconds comes before what takes minutes. Unlisted folders come
last. Several processes take it backwards, or one of them would still be at the minutes when the others are done.
"""

WITH_NODES = {
    "tests/cluster_tests/test_addons.py",
    "tests/cluster_tests/test_images.py",
    "tests/cluster_tests/test_isolation.py",
    "tests/cluster_tests/test_nodes.py",
    "tests/e2e/test_chart_certificates.py",
    "tests/e2e/test_chart_proxy.py",
    "tests/e2e/test_chart_replicas.py",
    "tests/e2e/test_charts.py",
    "tests/e2e/test_docs.py",
    "tests/e2e/test_engine_health.py",
    "tests/e2e/test_engine_hooks.py",
}
"""Files that share clusters with real nodes."""
WITHOUT_CLUSTER = {"tests/e2e/test_demo.py", "tests/e2e/test_engine_api_server.py", "tests/e2e/test_rendering.py"}
"""Files of e2e that share none: they bring up their own, or need none."""

UNIT_CPU_SECONDS = 10.0
"""
A unit test does no I/O, so CPU time is about what it would take on an idle machine; wall time on shared cores is not.
The longest takes one second: a busy machine, whose processes share caches and cores, needs several times as much.
Hypothesis runs a test a hundred times, so its tests have the time limit alone.
"""

UNIT_TIMEOUT_SECONDS = 2 * PATIENCE_SECONDS
"""Ends a unit test that waits for something, after the limits that tests keep themselves and that say what for."""

CLUSTER_TIMEOUT_SECONDS = 600.0
"""For a test on a real cluster, without its fixtures: the first may build Kubernetes, and keeps a deadline itself."""

# One source of randomness would hide bugs and a random one would stop a release: developers explore, CI repeats.
settings.register_profile(
    "explore", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True, max_examples=100
)
settings.register_profile("repeat", settings.get_profile("explore"), derandomize=True)
settings.load_profile("repeat" if os.environ.get("CI") else "explore")


def _folder(item: pytest.Item) -> str:
    """Name the folder of `tests` that a test is in."""
    parts = item.path.relative_to(TESTS).parts if item.path.is_relative_to(TESTS) else ()
    return parts[0] if len(parts) > 1 else ""


def _group(file: str) -> str:
    """
    Name the group of files that one process runs, when several run the tests.

    Each shared cluster is then started once: idle ones in every process would take most of a core.
    """
    if file in WITH_NODES:
        return "nodes"
    return "control plane" if file.startswith("tests/e2e/") and file not in WITHOUT_CLUSTER else file


class GroupScheduling(LoadFileScheduling):  # type: ignore[misc]  # xdist ships no types
    """As --dist=loadfile, by groups of files."""

    def _split_scope(self, nodeid: str) -> str:
        return _group(str(super()._split_scope(nodeid)))


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> GroupScheduling | None:
    """Schedule by groups where `make test` asks for files to stay whole."""
    return GroupScheduling(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order tests by folder, and give each the time limit of its kind."""
    shared = {"cluster", "relay_cluster"}
    using = {item.nodeid.partition("::")[0] for item in items if shared & set(getattr(item, "fixturenames", ()))}
    if missing := using - WITH_NODES:
        raise pytest.UsageError(f"tests/conftest.py: add to WITH_NODES: {', '.join(sorted(missing))}")
    items.sort(
        key=lambda item: FOLDERS.index(_folder(item)) if _folder(item) in FOLDERS else len(FOLDERS),
        reverse=hasattr(config, "workerinput"),
    )
    for item in items:
        if item.get_closest_marker("timeout"):
            continue
        if _folder(item) == "unit":
            # The last one of a process would else be charged with the end of every cluster.
            item.add_marker(pytest.mark.timeout(UNIT_TIMEOUT_SECONDS, func_only=True))
        elif _folder(item) in {"cluster_tests", "e2e", "product"}:
            item.add_marker(pytest.mark.timeout(CLUSTER_TIMEOUT_SECONDS, func_only=True))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a unit test that used more CPU time than its limit."""
    started = time.process_time()
    yield
    used = time.process_time() - started
    explores = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
    if _folder(item) == "unit" and not explores and used > UNIT_CPU_SECONDS:
        pytest.fail(f"a unit test may use {UNIT_CPU_SECONDS} s of CPU time; this one used {used:.1f} s", pytrace=False)
