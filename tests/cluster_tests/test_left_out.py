"""Tests whose programs take minutes to build are left out where these are not built, and the run says so."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repository.checkout import ROOT

FILE = "tests/cluster_tests/test_metrics_and_gateway.py"
TESTS = ("test_metrics_of_nodes_and_pods_are_real_and_scale", "test_a_route_splits_requests_by_weight")
PROGRAMS = ("metrics-server", "traefik")


def _session(cache: Path, *options: str, full: bool = False) -> str:
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("FAIRLEAD_", "PYTEST_"))}
    variables |= {"FAIRLEAD_CACHE": str(cache)} | ({"FAIRLEAD_FAULT": "full"} if full else {})
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, FILE]
    done = subprocess.run(argv, cwd=ROOT, env=variables, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == (pytest.ExitCode.OK if full else pytest.ExitCode.NO_TESTS_COLLECTED), done.stdout
    return done.stdout


@pytest.mark.parametrize("options", [[], ["--numprocesses=2"]])
def test_tests_of_programs_not_built_here_are_left_out_by_name(tmp_path: Path, options: list[str]) -> None:
    """With an empty cache nothing runs and nothing is built, and the summary names each program that is missing."""
    said = _session(tmp_path, *options)
    for program in PROGRAMS:
        assert (
            f"tests left out because {program} is not built on this machine: 1; FAIRLEAD_FAULT=full builds it" in said
        )
    assert list(tmp_path.iterdir()) == []


def test_the_full_form_leaves_nothing_out(tmp_path: Path) -> None:
    """With FAIRLEAD_FAULT=full the same tests are collected."""
    said = _session(tmp_path, "--collect-only", "-q", full=True)
    assert all(test in said for test in TESTS)
    assert "left out" not in said
