"""Comparing with what an environment took last."""

import httpx
import pytest

from fairlead_cli.comparing import compare_with_current, remark
from fairlead_cli.errors import AnswerInvalid
from fairlead_cli.manifest_files import Text
from fairlead_cli.manifests import read_manifests
from fairlead_cli.records import Environment
from fairlead_cli.terminal import Terminal
from fairlead_shared.bundle import make_bundle
from tests.unit.cli.scripted_relay import DEPLOYMENT_ID, ORGANIZATION, ScriptedRelay, deployment, environment
from tests.unit.cli.test_changes import CONFIG

LOCATED = read_manifests([Text("a.yaml", CONFIG)], "shop")
BUNDLE = make_bundle(one.manifest for one in LOCATED)
CURRENT = deployment("succeeded", bundle_sha256=BUNDLE.sha256)


def running(**fields: object) -> Environment:
    """Return an environment in which the bundle runs."""
    return Environment.model_validate(environment(current=CURRENT, latest=CURRENT) | fields)


def test_the_current_bundle_is_what_counts() -> None:
    """Fetched by its hash; the deployment is named."""
    relay = ScriptedRelay()
    relay.answer(f"GET {ORGANIZATION}/bundles/{BUNDLE.sha256}", httpx.Response(200, content=BUNDLE.content))
    changes = compare_with_current(relay.client(), running(), LOCATED)
    assert [one.action for one in changes.objects] == ["unchanged"]
    assert (changes.compared_with, changes.is_changed) == (DEPLOYMENT_ID, False)


def test_before_the_first_deployment_all_is_new() -> None:
    """The relay is asked for nothing."""
    changes = compare_with_current(ScriptedRelay().client(), running(current=None, latest=None), LOCATED)
    assert [one.action for one in changes.objects] == ["created"]
    assert changes.compared_with is None


def test_another_bundle_than_named_is_refused() -> None:
    """A diff against anything else would be a lie."""
    relay = ScriptedRelay()
    relay.answer(f"GET {ORGANIZATION}/bundles/{BUNDLE.sha256}", httpx.Response(200, content=b"x\n"))
    with pytest.raises(AnswerInvalid, match=f"bundle {BUNDLE.sha256}"):
        compare_with_current(relay.client(), running(), LOCATED)


def test_what_it_cannot_know_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Sealed values, and a deployment that came after and failed."""
    failed = deployment("failed") | {"id": "01k9x0q6v3t1m8c5n7b2d4f6gz"}
    where = running(latest=failed)
    changes = compare_with_current(ScriptedRelay().client(), running(current=None), LOCATED)
    unknown = [one.model_copy(update={"action": "unknown"}) for one in changes.objects]
    remark(Terminal(), where, changes.model_copy(update={"objects": unknown}))
    said = capsys.readouterr().err
    assert "1 Secret has sealed values, which cannot be compared" in said
    assert "deployment 01k9x0q6v3t1m8c5n7b2d4f6gz came after it and is failed" in said
    remark(Terminal(), running(), changes)
    assert capsys.readouterr().err == ""
