"""
The audit log is append-only: no code of the relay can change or delete a record.

A record that was changed behind the relay's back is found by the chain of digests; that the relay never does it itself
is seen here. Few modules may know the table, and those have no statement with which they could.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.repository.checkout import modules

TABLE = "audit_records"
WRITERS = {"backup/audit_chains.py", "store/audit.py"}
"""These append; a restore puts the records that were there behind those of the backup."""
KNOWING = WRITERS | {"store/schema.py", "store/migrations/versions/v0008_pre_audit.py"}
"""The latter two make the table."""
CHANGING = {"Delete", "Update", "delete", "exec_driver_sql", "update"}
"""What makes a statement that changes or deletes, as a function, a class or a method of a table; or runs any text."""
CHANGING_TEXT = re.compile(rf"\b(update|delete\s+from|truncate|replace\s+into)\b[^;]*\b{TABLE}\b", re.IGNORECASE)


def names(tree: ast.AST) -> Iterator[str]:
    """Yield every name that code uses, and every string that it holds."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def relay() -> dict[str, ast.Module]:
    """Return the relay's modules by their paths."""
    return {str(module.relative): module.tree for module in modules() if module.member == "relay"}


def test_few_modules_know_the_table() -> None:
    """Whoever else wants to record something appends by store/audit.py."""
    knowing = {path for path, tree in relay().items() if TABLE in names(tree)}
    assert knowing == KNOWING


def test_no_module_that_writes_records_can_change_one() -> None:
    """Neither has a statement for it, by whatever name it would go."""
    able = {path: CHANGING & set(names(tree)) for path, tree in relay().items() if path in WRITERS}
    assert able == {path: set() for path in WRITERS}


def test_no_text_of_sql_changes_a_record() -> None:
    """Not in a migration either: a column that is added leaves what is there as it was written."""
    texts = {path: [text for text in names(tree) if CHANGING_TEXT.search(text)] for path, tree in relay().items()}
    assert not {path: found for path, found in texts.items() if found}


@pytest.mark.parametrize(
    "code",
    [
        "update(audit_records).values(detail='')",
        "audit_records.delete()",
        "from sqlalchemy import delete as remove",
        "sqlalchemy.update(schema.audit_records)",
        "connection.exec_driver_sql('VACUUM')",
    ],
)
def test_a_statement_that_changes_is_seen(code: str) -> None:
    """The tests above would see one."""
    assert CHANGING & set(names(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    ["op.execute('UPDATE audit_records SET detail = 1')", "run('delete  from main.audit_records WHERE number < 9')"],
)
def test_a_text_that_changes_is_seen(code: str) -> None:
    """So would the one above this."""
    assert any(CHANGING_TEXT.search(text) for text in names(ast.parse(code)))
