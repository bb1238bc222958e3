"""The store's migrations are one chain: two of the same number would stop every relay at its start."""

from __future__ import annotations

import itertools
import re

from fairlead_relay.store.migrate import SCRIPTS


def test_each_revision_follows_the_one_before_it() -> None:
    """Whoever comes second renumbers: file, revision, and the one that it follows."""
    files = sorted((SCRIPTS / "versions").glob("v*.py"))
    found = []
    for file in files:
        text = file.read_text()
        (revision,) = re.findall(r'^revision = "(\w+)"', text, re.MULTILINE)
        before = re.findall(r'^down_revision = "(\w+)"', text, re.MULTILINE)
        found.append((file.stem.partition("_")[0], revision, *before))
    numbers = [f"v{number:04}" for number in range(1, len(files) + 1)]
    assert found[0] == (numbers[0], numbers[0])
    assert found[1:] == [(number, number, before) for before, number in itertools.pairwise(numbers)]
