"""On which occasion a deployment's hooks run; that they run once is tests/e2e/test_engine_hook_crash.py's to show."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fairlead_agent.apply.hook_runs import occasion_of
from fairlead_agent.apply.hooks import Occasion
from fairlead_agent.apply.inventory import Inventory
from fairlead_agent.policy import Policy
from fairlead_agent.ports import DeployWork
from fairlead_shared.statement import EMPTY_BUNDLE, Strategy
from tests.unit.agent.apply.statements import statement

SOME = "a" * 64


@pytest.mark.parametrize(
    ("succeeded", "stated", "is_rollback", "occasion"),
    [
        ("", None, False, Occasion.FIRST),
        (SOME, None, False, Occasion.AGAIN),
        (SOME, SOME, False, Occasion.AGAIN),
        ("", SOME, False, Occasion.AGAIN),
        (EMPTY_BUNDLE.sha256, None, False, Occasion.FIRST),
        (EMPTY_BUNDLE.sha256, SOME, False, Occasion.FIRST),
        (SOME, SOME, True, Occasion.ROLLBACK),
    ],
)
def test_occasion(succeeded: str, stated: str | None, is_rollback: bool, occasion: Occasion) -> None:  # noqa: FBT001
    """The inventory knows what succeeded last; without one the statement says what its signer saw."""
    stated_before = statement(bundle_sha256=SOME, previous_bundle_sha256=stated, rollback=is_rollback)
    work = DeployWork(stated_before, EMPTY_BUNDLE, Policy(), lambda *_: {}, 1.0)
    assert occasion_of(work, replace(Inventory(), bundle_sha256=succeeded)) is occasion


@pytest.mark.parametrize("strategy", [Strategy.DESTROY, Strategy.DESTROY_WITHOUT_HOOKS])
def test_occasion_of_a_deletion(strategy: Strategy) -> None:
    """What runs before it has run once a try came that far."""
    work = DeployWork(statement(strategy=strategy), EMPTY_BUNDLE, Policy(), lambda *_: {}, 1.0)
    assert occasion_of(work, Inventory(bundle_sha256=SOME)) is Occasion.DELETION
    assert occasion_of(work, Inventory(bundle_sha256=SOME, is_being_deleted=True)) is Occasion.REST
