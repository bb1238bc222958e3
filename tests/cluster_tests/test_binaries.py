"""Programs are built once for the same sources and compiler, by one process at a time, and never half."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster import binaries
from tests.cluster.binaries import GoModule, binary, cache_directory
from tests.cluster.errors import BuildFailed, MissingTool

MAIN = 'package main\n\nimport "fmt"\n\nvar word = "unset"\n\nfunc main() { fmt.Println(word) }\n'


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a cache and a module `tiny` of the test's own."""
    folder = tmp_path / "go" / "tiny"
    folder.mkdir(parents=True)
    (folder / "go.mod").write_text("module fairlead.test/tiny\n\ngo 1.26\n")
    (folder / "main.go").write_text(MAIN)
    module = GoModule(
        folder="tiny", packages={"tiny": ".", "twin": "."}, cold_seconds=5, variables={"main.word": "stamped"}
    )
    monkeypatch.setenv("FAIRLEAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(binaries, "_SOURCES", tmp_path / "go")
    monkeypatch.setattr(binaries, "MODULES", (module,))
    return folder


def fresh_look(name: str) -> Path:
    """Ask as another process would, which has nothing in memory."""
    binaries._built.cache_clear()
    return binary(name)


def test_a_program_is_built_once_and_again_when_its_source_changes(sources: Path) -> None:
    """The same key gives the same file; a changed source gives another, and the old one stays for others."""
    first = fresh_look("tiny")
    assert subprocess.run([first], capture_output=True, text=True, check=True).stdout == "stamped\n"
    made = first.stat().st_mtime_ns
    assert fresh_look("tiny") == first
    assert first.stat().st_mtime_ns == made
    (sources / "main.go").write_text(MAIN.replace("Println(word)", "Println(word, 2)"))
    second = fresh_look("tiny")
    assert second != first
    assert first.exists()
    assert subprocess.run([second], capture_output=True, text=True, check=True).stdout == "stamped 2\n"


def test_one_package_may_have_several_names(sources: Path) -> None:
    """A multi-call binary is one file; each name leads to it."""
    assert fresh_look("twin").resolve() == fresh_look("tiny")


def test_a_refused_build_leaves_nothing_and_says_why(sources: Path) -> None:
    """The compiler's words are in the error, and the next try starts from nothing."""
    (sources / "main.go").write_text("package main\n\nfunc main() { undefined() }\n")
    with pytest.raises(BuildFailed, match="undefined: undefined"):
        fresh_look("tiny")
    assert list((cache_directory() / "bin").iterdir()) == []


def test_an_unknown_program_is_named(sources: Path) -> None:
    """What no module yields is an error that lists what they do."""
    with pytest.raises(MissingTool, match=r"program missing is missing: .* only tiny, twin"):
        binary("missing")


def test_leftovers_of_a_killed_build_and_old_versions_go(sources: Path) -> None:
    """A build removes what a killed one left, and what was last used more than a month ago."""
    home = cache_directory() / "bin"
    half, old, recent = home / ".tiny-half", home / "tiny-old", home / "tiny-recent"
    for path in (half, old, recent):
        path.mkdir(parents=True)
    long_ago = time.time() - 31 * 86_400
    os.utime(old, (long_ago, long_ago))
    fresh_look("tiny")
    assert not half.exists()
    assert not old.exists()
    assert recent.exists()


def test_two_processes_build_once(sources: Path) -> None:
    """The second one waits for the first and finds its work done."""
    script = (
        "import pathlib, sys\n"
        "from tests.cluster import binaries\n"
        "binaries._SOURCES = pathlib.Path(sys.argv[1])\n"
        "binaries.MODULES = (binaries.GoModule(folder='tiny', packages={'tiny': '.'}, cold_seconds=5),)\n"
        "print(binaries.binary('tiny').stat().st_ino)\n"
    )
    argv = [sys.executable, "-c", script, str(sources.parent)]
    pair = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = {process.communicate(timeout=100)[0] for process in pair}
    assert [process.returncode for process in pair] == [0, 0]
    assert len(answers) == 1
    assert len(list((cache_directory() / "bin").iterdir())) == 1
