"""How far the benchmarks are, for whoever waits: on standard error, beside the tables."""

from __future__ import annotations

import click


def say(text: str) -> None:
    """Print one line."""
    click.echo(f"bench: {text}", err=True)
