"""Rules for every file: length, names, and nothing that ties the checkout to one place."""

import re
import statistics
import sys
from pathlib import Path

from tests.repository.checkout import MEMBERS, ROOT, listed, modules, tracked

SOURCE_SUFFIXES = {".go", ".js", ".py", ".sh", ".ts", ".tsx"}
SOURCE_LINES = 600
TEST_LINES = 800
MEDIAN_LINES = 200

BANNED_NAMES = {"base", "common", "helper", "helpers", "manager", "misc", "util", "utils"}
BANNED_ENDINGS = ("_helper", "_helpers", "_manager", "_new", "_old", "_util", "_utils", "_v2")

PACKAGE_SOURCE = re.compile(
    r"--(extra-)?index-url|(?<!--no-index )--find-links|\[\[tool\.uv\.index\]\]|^index-url\s*="
    r"|^deb(-src)? .*https?://|GOPROXY=https?://",
    re.MULTILINE,
)
"""Settings that choose where packages come from: the machine's business. A folder in place of any index is neither."""

LOCK_SOURCE = re.compile(r'"resolved": "https?://|^(source|.*--hash|[a-z].*==).*https?://|^-', re.MULTILINE)
"""A package's address in a lock of npm, uv or pip, or one of pip's options."""


def lines(path: Path) -> int:
    """Count the lines of a text file."""
    return len(path.read_text().splitlines())


def named(path: Path) -> str:
    """Name a file as a reader of a failure wants it."""
    return str(path.relative_to(ROOT))


def test_no_source_file_is_too_long() -> None:
    """A file over the hard stop has more than one responsibility."""
    too_long = {
        f"{named(path)}: {count} lines"
        for path in tracked()
        if path.suffix in SOURCE_SUFFIXES
        and (count := lines(path)) > (TEST_LINES if path.is_relative_to(ROOT / "tests") else SOURCE_LINES)
    }
    assert not too_long, listed("split by noun", too_long)


def test_half_of_each_members_modules_are_short() -> None:
    """The median module stays within 200 lines."""
    for member in MEMBERS:
        counts = [lines(module.path) for module in modules() if module.member == member]
        assert statistics.median(counts) <= MEDIAN_LINES, f"the modules of {member} are growing: split some by noun"


def test_no_file_or_folder_has_a_name_that_says_nothing() -> None:
    """A helper lives beside the type it serves, not in a drawer."""
    banned = {
        named(path)
        for path in tracked()
        if path.suffix in SOURCE_SUFFIXES
        and any(
            part in BANNED_NAMES or part.endswith(BANNED_ENDINGS)
            for part in (*path.relative_to(ROOT).parent.parts, path.stem.removeprefix("test_"))
        )
    }
    assert not banned, listed("name for what it holds", banned)


def test_no_module_is_named_like_the_standard_librarys() -> None:
    """A module named `queue` is taken for the standard library's."""
    shadowing = {
        named(module.path)
        for module in modules()
        if module.path.stem in sys.stdlib_module_names and not module.path.stem.startswith("__")
    }
    assert not shadowing, listed("choose a name that is not the standard library's", shadowing)


def test_no_file_chooses_a_package_index() -> None:
    """A mirror or a proxy must serve the checkout as it is."""
    text_files = [path for path in tracked() if b"\0" not in path.read_bytes()[:1024] and path != Path(__file__)]
    tied = {named(path) for path in text_files if PACKAGE_SOURCE.search(path.read_text(errors="replace"))}
    assert not tied, listed("where packages come from is the machine's business", tied)


def test_no_lock_names_a_host() -> None:
    """Locks hold versions and hashes; where files come from is the machine's business."""
    locks = [
        path
        for path in tracked()
        if path.name in {"package-lock.json", "uv.lock"}
        or (path.parent == ROOT / "requirements" and path.suffix == ".txt" and path.name != "members.txt")
    ]
    assert locks
    naming = {named(path) for path in locks if LOCK_SOURCE.search(path.read_text())}
    assert not naming, listed("lock without hosts", naming)
