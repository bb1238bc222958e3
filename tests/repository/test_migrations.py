"""The store's migrations are one chain: two of the same number would stop every relay at its start."""

from __future__ import annotations

import ast
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


def test_revisions_that_are_said_to_add_only_add() -> None:
    """A relay that does not know them goes on writing its rows: new columns have a value without it."""
    for file in sorted((SCRIPTS / "versions").glob("v*_pre_*.py")):
        (upgrade,) = [
            node
            for node in ast.parse(file.read_text()).body
            if isinstance(node, ast.FunctionDef) and node.name == "upgrade"
        ]
        calls = [node for node in ast.walk(upgrade) if isinstance(node, ast.Call)]
        called = {node.func.attr: node for node in calls if isinstance(node.func, ast.Attribute)}
        assert not {name for name in called if name.startswith(("drop_", "alter_", "rename_"))}, file.name
        for call in calls:
            if isinstance(call.func, ast.Attribute) and call.func.attr == "add_column":
                (made,) = [word for word in call.args if isinstance(word, ast.Call)]
                words = {word.arg: ast.unparse(word.value) for word in made.keywords}
                assert words.get("nullable") == "True" or "server_default" in words, f"{file.name}: {ast.unparse(made)}"


FORGOTTEN = {"jobs", "bundles", "deployments"}
"""Tables of which every relay forgets rows that are old."""


def test_tables_that_are_added_keep_no_older_relay_from_forgetting() -> None:
    """After a rollback it knows nothing of a new table whose rows name a job or a bundle: they go with it."""
    named = 0
    _, *added = sorted((SCRIPTS / "versions").glob("v*_pre_*.py"))
    for file in added:
        for node in ast.walk(ast.parse(file.read_text())):
            if not (isinstance(node, ast.Call) and ast.unparse(node.func) == "sa.ForeignKeyConstraint"):
                continue
            tables = {name.partition(".")[0] for name in ast.literal_eval(node.args[1])}
            if tables & FORGOTTEN:
                named += 1
                words = {word.arg: ast.unparse(word.value) for word in node.keywords}
                assert words.get("ondelete") == "'CASCADE'", f"{file.name}: {ast.unparse(node)}"
    assert named
