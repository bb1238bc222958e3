"""Running other people's programs: bounded, without a shell, without our secrets."""

import json
import os
from pathlib import Path

import pytest

from fairlead_cli.errors import ProgramFailed
from fairlead_cli.programs import MAX_REMARK_BYTES, Written, find_program, kept_variables, run_program
from tests.polling import wait_until


def program(path: Path, script: str) -> str:
    """Write a program of shell, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def written(path: str, *arguments: str, seconds: float = 10, most_bytes: int = 1000) -> Written:
    """Run a program that sees our own PATH only."""
    variables = {"PATH": os.environ["PATH"]}
    return run_program([path, *arguments], variables, seconds=seconds, most_bytes=most_bytes, shown="it")


def test_arguments_are_words_and_nothing_can_be_typed(tmp_path: Path) -> None:
    """No shell looks at them, and standard input is at its end."""
    made = written(program(tmp_path / "x", 'printf "%s|" "$@"; cat; echo " note " >&2'), "a b", "$(id)", ";")
    assert made == Written(b"a b|$(id)|;|", "note")


def test_the_first_program_on_the_path_is_found(tmp_path: Path) -> None:
    """The best by name, not by folder."""
    two = program(tmp_path / "two" / "kubectl", "true")
    assert find_program(("kustomize", "kubectl"), {"PATH": f"{tmp_path}/one:{tmp_path}/two"}) == two
    one = program(tmp_path / "two" / "kustomize", "true")
    assert find_program(("kustomize", "kubectl"), {"PATH": f"{tmp_path}/two"}) == one
    assert find_program(("kustomize",), {"PATH": str(tmp_path)}) is None


def test_programs_see_no_secret_of_ours() -> None:
    """Nor of CI; they see where their own files are, and the way to the network."""
    secret = {"FAIRLEAD_TOKEN": "t", "GITHUB_TOKEN": "t", "AWS_SECRET_ACCESS_KEY": "t", "KUBECONFIG": "k"}
    kept = {"PATH": "p", "HOME": "h", "https_proxy": "x", "HELM_CACHE_HOME": "c", "GIT_SSH_COMMAND": "s"}
    assert kept_variables(secret | kept) == kept


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo no chart >&2; exit 3", "'it' ended with exit code 3\n  no chart"),
        ("yes", "'it' wrote more than 1,000 bytes"),
    ],
)
def test_failures_say_what_the_program_said(script: str, said: str, tmp_path: Path) -> None:
    """With its own words below."""
    with pytest.raises(ProgramFailed) as caught:
        written(program(tmp_path / "x", script))
    assert str(caught.value) == said


def test_what_cannot_be_started_is_named(tmp_path: Path) -> None:
    """For example a file that is no program."""
    (tmp_path / "x").write_text("")
    with pytest.raises(ProgramFailed, match="'it' cannot be started: Permission denied"):
        written(str(tmp_path / "x"))


def test_a_program_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    """A plugin that waits for a password, for example."""
    pids = tmp_path / "pids"
    script = program(tmp_path / "x", f"sleep 600 & echo $! > {pids}; wait")
    with pytest.raises(ProgramFailed, match="has not ended after 0 s"):
        written(script, seconds=0.3)
    state = Path(f"/proc/{pids.read_text().strip()}/stat")

    def has_ended() -> bool:
        try:
            return state.read_text().rpartition(")")[2].split()[0] in {"Z", "X"}
        except (FileNotFoundError, ProcessLookupError):
            return True

    wait_until(has_ended, "the child to end")


def test_remarks_are_bounded(tmp_path: Path) -> None:
    """A program may warn about each of a thousand templates."""
    made = written(program(tmp_path / "x", "head -c 100000 /dev/zero | tr '\\0' y >&2; echo done"))
    assert made.stdout == b"done\n"
    assert len(made.stderr) == MAX_REMARK_BYTES
    assert json.dumps(made.stderr)
