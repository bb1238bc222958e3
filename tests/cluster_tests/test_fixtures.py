"""Tests whose programs take minutes to build are left out where these are not built, and the run says so."""

import os
import subprocess
import sys
from pathlib import Path

from tests.repository.checkout import ROOT

TESTS = "tests/cluster_tests/test_metrics_and_gateway.py"


def _collected(cache: Path, **environment: str) -> str:
    argv = [sys.executable, "-m", "pytest", "--collect-only", "-q", TESTS]
    variables = {name: value for name, value in os.environ.items() if name != "FAIRLEAD_FAULT"}
    variables |= {"FAIRLEAD_CACHE": str(cache), **environment}
    done = subprocess.run(argv, cwd=ROOT, env=variables, capture_output=True, text=True, check=True, timeout=100)
    return done.stdout


def test_tests_of_programs_not_built_here_are_left_out_by_name(tmp_path: Path) -> None:
    """With an empty cache they are deselected, each program is named, and nothing is built; the full form has all."""
    said = _collected(tmp_path)
    assert "test_a_cluster_without_a_node_is_refused" in said
    assert "test_a_route_splits_requests_by_weight" not in said
    assert "test_metrics_of_nodes_and_pods_are_real_and_scale" not in said
    assert "2 deselected" in said
    for program in ("traefik", "metrics-server"):
        assert (
            f"tests left out because {program} is not built on this machine: 1; FAIRLEAD_FAULT=full builds it" in said
        )
    full = _collected(tmp_path, FAIRLEAD_FAULT="full")
    assert "test_a_route_splits_requests_by_weight" in full
    assert "left out" not in full
    assert list(tmp_path.iterdir()) == []
