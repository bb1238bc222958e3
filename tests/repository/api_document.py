"""
The API's document as it is checked in, for clients and the UI to be generated from; `make openapi` writes it.

Must not: be edited by hand, or hold anything that a running relay does not publish.
"""

from __future__ import annotations

import json
import re
import subprocess
from typing import Final

from fairlead_relay.api.application import make_routes
from tests.polling import PATIENCE_SECONDS
from tests.repository.checkout import ROOT

FILE: Final = ROOT / "docs" / "openapi.json"
CHANGELOG_LINE: Final = re.compile(r"^- API: ", re.MULTILINE)


def rendered() -> str:
    """Return the document as the file should be."""
    return json.dumps(make_routes().openapi(), indent=1, ensure_ascii=False) + "\n"


def released() -> str:
    """Return the document of the newest release; empty before the first, or where the checkout has no tags."""
    tag = _git("describe", "--tags", "--abbrev=0", "--match", "v[0-9]*")
    return _git("show", f"{tag.strip()}:{FILE.relative_to(ROOT)}") if tag else ""


def unreleased() -> str:
    """Return the section "Unreleased" of the changelog."""
    text = (ROOT / "CHANGELOG.md").read_text()
    return text.partition("## [Unreleased]")[2].partition("\n## [")[0]


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
    )
    return done.stdout if done.returncode == 0 else ""


if __name__ == "__main__":
    FILE.write_text(rendered())
