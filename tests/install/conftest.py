"""The pinned uv, which `make setup` links into the environment."""

import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def uv() -> Path:
    """Path of the pinned uv."""
    path = Path(sys.prefix) / "bin" / "uv"
    assert path.exists(), "make setup links uv here: run it, and run pytest from .venv"
    return path
