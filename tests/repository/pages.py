"""
The documentation as tests see it: pages, their fenced blocks, and the commands that people will copy from them.

Knows Markdown as far as our pages use it and the shell as far as finding programs and their words asks for. Must not:
run anything.
"""

from __future__ import annotations

import re
import shlex
import textwrap
from dataclasses import dataclass
from pathlib import Path

from tests.repository.checkout import ROOT, tracked

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[a-z]*)$")
_HEADING = re.compile(r"^#{1,6} (?P<title>.+)$")
_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
_INLINE = re.compile(r"`([^`\n]+)`")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_SEPARATORS = {"|", "||", "&&", "&", ";", "(", ")", "<(", "{", "}", "));", ");"}
_REDIRECTIONS = {"<", ">", ">>"}


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    """Absolute path of the page."""
    line: int
    """Line of the opening fence, from 1."""
    language: str
    """The word after the fence, such as `sh`; empty if there is none."""
    section: str
    """The nearest heading above, without its signs."""
    text: str
    """What is between the fences, without the indentation of a list."""

    @property
    def place(self) -> str:
        """Where it is, as a failure names it."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def shell(self) -> str:
        """The commands to type, without their output; empty for blocks of another language."""
        if self.language == "sh":
            return self.text
        if self.language == "console":
            return "\n".join(line.removeprefix("$ ") for line in self.text.splitlines() if line.startswith("$ "))
        return ""


@dataclass(frozen=True)
class Command:
    """One simple command: a program and its words, without redirections and variables before it."""

    place: str
    """Page and line of its block."""
    words: tuple[str, ...]
    """Program and arguments, with quotes resolved and `$variables` left as they are."""

    @property
    def text(self) -> str:
        """The command in one line."""
        return " ".join(self.words)


def pages() -> list[Path]:
    """List the pages that people read: those at the root, in docs, and the README of any folder below."""
    return [
        path
        for path in tracked()
        if path.suffix == ".md" and (path.parent == ROOT or path.is_relative_to(ROOT / "docs") or path.stem == "README")
    ]


def blocks(page: Path) -> list[Block]:
    """List the fenced blocks of a page. Raises: AssertionError: the last one is never closed."""
    found: list[Block] = []
    section, opened, content = "", None, list[str]()
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        fence = _FENCE.match(line)
        if opened is not None:
            if fence is not None:
                start, language = opened
                found.append(Block(page, start, language, section, textwrap.dedent("\n".join(content))))
                opened = None
            else:
                content.append(line)
        elif fence is not None:
            opened, content = (number, fence["language"]), []
        elif (heading := _HEADING.match(line)) is not None:
            section = heading["title"]
    assert opened is None, f"{page.relative_to(ROOT)}: the block of line {opened} is not closed"
    return found


def commands(block: Block) -> list[Command]:
    """List the simple commands of a block, those in pipes and substitutions too."""
    return [
        Command(block.place, words)
        for line in block.shell.replace("\\\n", " ").splitlines()
        for words in _simple_commands(line)
    ]


def inline_code(page: Path) -> list[str]:
    """List what a page sets in backticks, outside its fenced blocks."""
    return _INLINE.findall(_prose(page))


def links(page: Path) -> list[str]:
    """List the targets of a page's links, as written."""
    return [match["target"] for match in _LINK.finditer(_prose(page))]


def anchors(page: Path) -> set[str]:
    """Name the anchors that a page's headings give, by GitHub's rule."""
    titles = (match["title"] for match in map(_HEADING.match, _prose(page).splitlines()) if match)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def table_column(page: Path, title: str) -> list[str]:
    """
    Return the first column of the table whose first title is this, without backticks.

    Raises: StopIteration: the page has no such table.
    """
    lines = iter(page.read_text().splitlines())
    next(line for line in lines if line.startswith(f"| {title} |"))
    next(lines)
    rows: list[str] = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append(line.split("|")[1].strip().replace("`", ""))
    return rows


def _prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    kept: list[str] = []
    is_inside = False
    for line in page.read_text().splitlines():
        if _FENCE.match(line):
            is_inside = not is_inside
        elif not is_inside:
            kept.append(line)
    return "\n".join(kept)


def _simple_commands(line: str) -> list[tuple[str, ...]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    is_file = False
    for word in lexer:
        if is_file and word not in _SEPARATORS:
            is_file = False
        elif word in _REDIRECTIONS:
            is_file = True
        elif word in _SEPARATORS:
            is_file = False
            found.append([])
        elif found[-1] or not _ASSIGNMENT.match(word):
            found[-1].append(word)
    return [tuple(words) for words in found if words]
