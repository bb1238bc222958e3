"""The `fairlead` command, a client of the relay's API."""

from __future__ import annotations


def __getattr__(name: str) -> str:
    # importlib.metadata takes 30 ms to import, a sixth of what `--help` may take; only `--version` needs it.
    if name == "__version__":
        from importlib.metadata import version

        return version("fairlead")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
