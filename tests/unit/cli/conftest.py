"""The command under test: run in this process, with a scripted relay at the other end and a home of its own."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fairlead_cli.__main__ import run
from tests.unit.cli.scripted_relay import ScriptedRelay


@pytest.fixture
def relay(monkeypatch: pytest.MonkeyPatch) -> ScriptedRelay:
    """A scripted relay that commands connect to."""
    scripted = ScriptedRelay()
    monkeypatch.setattr("fairlead_cli.connecting.connect", scripted.client)
    return scripted


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for configuration and pins; the environment says nothing else."""
    for name in [name for name in os.environ if name.startswith("FAIRLEAD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FAIRLEAD_CONFIG", str(tmp_path / "config.yaml"))
    return tmp_path


@pytest.fixture
def fairlead(home: Path) -> Callable[..., Result]:
    """Run `fairlead` with some arguments, as a process would; its exit code, stdout and stderr are the result."""

    def call(*arguments: str, stdin: str = "") -> Result:
        import click

        @click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
        @click.argument("words", nargs=-1, type=click.UNPROCESSED)
        @click.pass_context
        def process(ctx: click.Context, words: tuple[str, ...]) -> None:
            ctx.exit(run(words))

        return CliRunner().invoke(process, list(arguments), input=stdin, catch_exceptions=False)

    return call
