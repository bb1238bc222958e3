"""The command as a whole: help, mistakes, exit codes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from click.testing import Result

from fairlead_cli.__main__ import NAMES, Commands
from tests.polling import PATIENCE_SECONDS
from tests.unit.cli.scripted_relay import ENVIRONMENT, ORGANIZATION, ScriptedRelay, environment, problem

HEAVY = {"cryptography", "fairlead_shared", "httpx", "pydantic", "rich", "yaml"}
"""Each takes longer to import than `--help` may add."""

Fairlead = Callable[..., Result]


def test_help_lists_every_command(fairlead: Fairlead) -> None:
    """Each with a sentence, and the exit codes below."""
    result = fairlead("--help")
    assert result.exit_code == 0
    assert all(f"\n  {name} " in result.stdout for name in NAMES)
    assert "8 still pending" in result.stdout
    assert "..." not in result.stdout.replace("[ARGS]...", ""), "a sentence does not fit"


@pytest.mark.parametrize("name", NAMES)
def test_each_command_has_help(name: str, fairlead: Fairlead) -> None:
    """In one word more than the name."""
    assert fairlead(name, "--help").exit_code == 0


def test_help_imports_nothing_heavy() -> None:
    """It must answer within 200 ms, on a slow laptop too."""
    code = (
        "import sys; from fairlead_cli.__main__ import run; "
        "[run([name, '--help']) for name in sys.argv[1:]]; run(['--help']); "
        "print('imported', *{name.partition('.')[0] for name in sys.modules})"
    )
    command = [sys.executable, "-c", code, *NAMES]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS).stdout
    assert not HEAVY & set(said.splitlines()[-1].split())


def test_calls_import_no_command_line_of_others(home: Path) -> None:
    """httpx has one, with rich, that would double its import."""
    code = (
        "import sys; sys.argv = ['fairlead', 'app', 'list']; from fairlead_cli.__main__ import main\n"
        "try: main()\n"
        "finally: print('imported', *sys.modules)"
    )
    environment = os.environ | {"FAIRLEAD_SERVER": "http://127.0.0.1:1", "FAIRLEAD_TOKEN": "no token"}
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
        env=environment,
    )
    imported = set(ended.stdout.splitlines()[-1].split())
    assert "httpx" in imported
    assert not {"rich", "pygments"} & imported


def test_commands_are_a_mapping_like_any_other() -> None:
    """Click iterates, counts and may add."""
    commands = Commands()
    assert list(commands) == list(NAMES)
    assert commands["app"] is commands["app"]
    commands["other"] = commands["app"]
    del commands["app"]
    assert len(commands) == len(NAMES)
    assert "other" in commands


def test_a_misspelt_command_gets_a_suggestion(fairlead: Fairlead) -> None:
    """And exit code 2, as all mistakes in what was typed."""
    result = fairlead("depoy")
    assert result.exit_code == 2
    assert "Did you mean" in result.stderr
    assert "'deploy'" in result.stderr


def test_no_command_shows_help_and_is_a_mistake(fairlead: Fairlead) -> None:
    """A script that forgot its arguments must not go on."""
    result = fairlead()
    assert result.exit_code == 2
    assert "Commands:" in result.stderr


@pytest.mark.parametrize("flag", ["--version"])
def test_version_is_one_line(flag: str, fairlead: Fairlead) -> None:
    """For bug reports."""
    assert fairlead(flag).stdout.startswith("fairlead ")


def test_errors_are_one_sentence_with_their_exit_code(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """The relay's own words, and 4 where the token is to blame."""
    relay.answer(f"GET {ENVIRONMENT}", problem(403, "forbidden", "this needs the role admin; the token has viewer"))
    result = fairlead("env", "show", "shop/staging")
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr == "error: this needs the role admin; the token has viewer (forbidden)\n"


def test_a_misspelt_name_gets_a_suggestion(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """From what is there; the refusal comes first."""
    relay.answer(
        f"GET {ORGANIZATION}/applications/shpo/environments/x", problem(404, "not_found", "no application shpo")
    )
    relay.answer(f"GET {ORGANIZATION}/applications", {"items": [{"name": "shop"}]})
    result = fairlead("env", "show", "shpo/x")
    assert (result.exit_code, result.stderr) == (1, "error: no application shpo (not_found); did you mean 'shop'?\n")


def test_not_logged_in_says_what_to_do(fairlead: Fairlead) -> None:
    """Exit code 4, and the command to run."""
    result = fairlead("app", "list")
    assert result.exit_code == 4
    assert "run 'fairlead login URL'" in result.stderr


def test_ctrl_c_is_130(fairlead: Fairlead, relay: ScriptedRelay, monkeypatch: pytest.MonkeyPatch) -> None:
    """As shells have it, without a traceback."""
    relay.answer(f"GET {ENVIRONMENT}", environment())

    def interrupted(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fairlead_cli.client.Client.environment", interrupted)
    assert fairlead("env", "show", "shop/staging").exit_code == 130


def test_unreachable_relay_is_named(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """With the address, so that a wrong one shows."""
    relay.answer(f"GET {ORGANIZATION}/applications", httpx.ConnectError("Connection refused"))
    result = fairlead("app", "list")
    assert result.exit_code == 1
    assert "no answer from the relay at https://relay.example:7443: Connection refused" in result.stderr


def test_a_reader_that_went_away_ends_the_command_quietly() -> None:
    """`fairlead events | head -1` must not end in a traceback, nor look like a success under pipefail."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "fairlead_cli", "completion", "bash"]
    with os.fdopen(writer, "wb") as stdout:
        ended = subprocess.run(
            command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, timeout=PATIENCE_SECONDS
        )
    assert (ended.returncode, ended.stderr) == (141, "")
