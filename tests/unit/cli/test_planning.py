"""Asking the agent for a plan: what is sent, what its answer means, and what is said when there is none."""

from collections.abc import Mapping
from typing import Any

import click
import httpx
import pytest

from fairlead_cli.bundling import Prepared
from fairlead_cli.errors import ApiError, ExitCode, PlanRefused, PlanUnanswered
from fairlead_cli.planning import Plan, Unplanned, ask_for_plan, dotted, show_plan, summary
from fairlead_cli.records import Environment
from fairlead_cli.terminal import Format, Terminal
from fairlead_shared.bundle import make_bundle
from tests.unit.cli.scripted_relay import (
    ENVIRONMENT,
    MOMENT,
    ORGANIZATION,
    WEB,
    ScriptedRelay,
    environment,
    problem,
    stored,
    stream,
)

BUNDLE = make_bundle([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "shop"}}])
PREPARED = Prepared(BUNDLE, {"Deployment shop/web": "k8s/web.yaml:7"}, "")
SHOP = Environment.model_validate(environment())
ASK = f"POST {ENVIRONMENT}/plans"
EVENTS = f"GET {ORGANIZATION}/jobs/plan1/events"
JOB = f"GET {ORGANIZATION}/jobs/plan1"
OLD = {"api_version": "v1", "kind": "ConfigMap", "namespace": "shop", "name": "old"}
KEPT = OLD | {"name": "kept"}

REPLICAS: dict[str, Any] = {"pointer": "/spec/replicas", "before": "1", "after": "2"}
ANSWER: list[dict[str, Any]] = [
    {"type": "step", "step": "preflight", "status": "started"},
    {"type": "planned", "object": WEB, "action": "changed", "fields": [REPLICAS], "fields_left_out": 3},
    {"type": "planned", "object": OLD, "action": "pruned"},
    {"type": "planned", "object": KEPT, "action": "unchanged"},
    {"type": "finding", "severity": "warning", "code": "warning", "object": WEB, "message": "deprecated"},
    {"type": "result", "outcome": "succeeded"},
]


def job(state: str = "queued", **fields: object) -> dict[str, Any]:
    """Return a job of kind `plan` as the API shows it."""
    return {"id": "plan1", "kind": "plan", "cluster": "prod", "state": state, "created_at": MOMENT} | fields


def told(*events: Mapping[str, Any]) -> httpx.Response:
    """Return a stream of the plan's events, to its end."""
    return stream([stored(place, dict(event)) for place, event in enumerate(events, start=1)])


def scripted(*events: Mapping[str, Any], ended: Mapping[str, Any] | None = None) -> ScriptedRelay:
    """Return a relay that has the bundle and gives a plan's events."""
    relay = ScriptedRelay()
    relay.answer(f"HEAD {ORGANIZATION}/bundles/{BUNDLE.sha256}", httpx.Response(200))
    relay.answer(ASK, job())
    relay.answer(EVENTS, told(*events))
    relay.answer(JOB, dict(ended or job("succeeded")))
    return relay


def planned(relay: ScriptedRelay, **consents: object) -> Plan:
    """Ask this relay."""
    return ask_for_plan(relay.client(), SHOP, PREPARED, consents, 30)


def test_the_bundle_is_sent_and_the_answer_gathered() -> None:
    """Each object with its place in the files; the job waits a little longer than the command does."""
    relay = scripted(*ANSWER)
    relay.change(f"HEAD {ORGANIZATION}/bundles/{BUNDLE.sha256}", httpx.Response(404))
    relay.answer(f"PUT {ORGANIZATION}/bundles/{BUNDLE.sha256}", httpx.Response(201))
    plan = planned(relay, consents=["adopt"])
    assert relay.bodies(ASK) == [{"bundle_sha256": BUNDLE.sha256, "deadline_seconds": 35, "consents": ["adopt"]}]
    assert [(str(one.object), str(one.action), one.origin) for one in plan.objects] == [
        ("Deployment shop/web", "changed", "k8s/web.yaml:7"),
        ("ConfigMap shop/old", "pruned", ""),
        ("ConfigMap shop/kept", "unchanged", ""),
    ]
    assert (plan.is_possible, plan.is_changing) == (True, True)
    assert summary(plan) == "1 changed, 1 unchanged, 1 pruned; by the cluster's own dry-run. Nothing was changed."


def test_a_plan_reads_field_by_field(capsys: pytest.CaptureFixture[str]) -> None:
    """What stays is left out of a list of changes, and warnings are no part of the answer."""
    secret = {"type": "planned", "object": OLD | {"kind": "Secret"}, "action": "changed"}
    masked = secret | {"fields": [{"pointer": "/data", "masked": True}]}
    plan = planned(scripted(*ANSWER[:5], masked, {"type": "planned", "object": KEPT, "action": "created"}, ANSWER[5]))
    show_plan(Terminal(), plan, is_whole=False)
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        "~ Deployment shop/web (k8s/web.yaml:7) changed",
        "    spec.replicas: 1 → 2",
        "    and 3 more",
        "- ConfigMap shop/old pruned",
        "~ Secret shop/old changed",
        "    data: differs (secret)",
        "+ ConfigMap shop/kept created",
    ]
    assert shown.err == "warning: Deployment shop/web: deprecated\n"
    show_plan(Terminal(), plan, is_whole=True)
    assert "  ConfigMap shop/kept unchanged" in capsys.readouterr().out.splitlines()


def test_a_plan_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """All of it, or its changes as a list, or their names."""
    plan = planned(scripted(*ANSWER))
    show_plan(Terminal(Format.JSON), plan, is_whole=True)
    assert Plan.model_validate_json(capsys.readouterr().out) == plan
    show_plan(Terminal(Format.NAME), plan, is_whole=False)
    assert capsys.readouterr().out == "Deployment shop/web\nConfigMap shop/old\n"


def test_a_deployment_that_would_be_refused_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    """The cause first, then each finding with its place and what would help."""
    finding = {"type": "finding", "severity": "error", "code": "immutable", "object": WEB, "message": "no"}
    result = {"type": "result", "outcome": "failed", "code": "immutable", "cause": "it cannot be changed"}
    plan = planned(scripted(ANSWER[2], finding | {"remedy": "rename it"}, result, ended=job("failed")))
    assert not plan.is_possible
    show_plan(Terminal(), plan, is_whole=False)
    assert capsys.readouterr().err.splitlines() == [
        "error: it would be refused: it cannot be changed",
        "  Deployment shop/web: no (immutable)",
        "    rename it",
    ]


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        (job("refused", code="unsupported", cause="knows no job of kind 'plan'"), "cluster prod makes no plan: knows"),
        (job("refused", code="signature", cause="1 of 2 signatures"), "1 of 2 signatures"),
    ],
)
def test_an_agent_that_cannot_plan_is_no_error(ended: dict[str, Any], said: str) -> None:
    """An older one, or one whose operator asks for other signatures: the bundles can be compared."""
    with pytest.raises(Unplanned, match=said):
        planned(scripted(ended=ended))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (problem(403, "forbidden", "needs the role deployer"), "may not ask for a plan: needs the role deployer"),
        (problem(404, "not_found", "no route"), "the relay is of a version that knows no plans"),
        (problem(405, "method_not_allowed", "no route"), "the relay is of a version that knows no plans"),
    ],
)
def test_a_relay_that_cannot_be_asked_is_no_error(answer: httpx.Response, said: str) -> None:
    """It is older, or the token may only look."""
    relay = scripted()
    relay.change(ASK, answer)
    with pytest.raises(Unplanned, match=said):
        planned(relay)


def test_other_refusals_are_errors() -> None:
    """The relay's, and those of the agent's rules."""
    relay = scripted()
    relay.change(ASK, problem(422, "invalid_request", "bad"))
    with pytest.raises(ApiError):
        planned(relay)
    with pytest.raises(PlanRefused, match="made no plan: not bound"):
        planned(scripted(ended=job("refused", code="not_bound", cause="not bound")))
    failed = {"type": "result", "outcome": "failed", "cause": "the API server is away"}
    with pytest.raises(PlanRefused, match="the API server is away"):
        planned(scripted(failed, ended=job("failed", cause="the API server is away")))


def test_a_job_that_expired_says_what_it_waited_for() -> None:
    """With the exit code of what goes on without us."""
    with pytest.raises(PlanUnanswered, match="no plan after 30 s: its deadline passed") as caught:
        planned(scripted(ended=job("expired", cause="its deadline passed")))
    assert caught.value.exit_code is ExitCode.PENDING


def test_the_time_limit_cancels_the_job() -> None:
    """Nobody would read its answer; what it waited for is the reason."""
    relay = scripted(ended=job("queued", reason="agent of cluster prod is offline"))
    relay.change(EVENTS, stream([], is_ended=False))
    relay.answer(f"POST {ORGANIZATION}/jobs/plan1/cancel", job("cancelled"))
    with pytest.raises(PlanUnanswered, match="agent of cluster prod is offline"):
        ask_for_plan(relay.client(), SHOP, PREPARED, {}, 0.2)
    assert f"POST {ORGANIZATION}/jobs/plan1/cancel" in relay.calls()


@pytest.mark.parametrize(
    ("pointer", "text"),
    [
        ("/spec/replicas", "spec.replicas"),
        ("/spec/template/spec/containers/0/image", "spec.template.spec.containers[0].image"),
        ("/metadata/labels/app.kubernetes.io~1name", 'metadata.labels["app.kubernetes.io/name"]'),
        ("/data/a~0b", 'data["a~b"]'),
        ("", ""),
    ],
)
def test_pointers_read_as_people_write_them(pointer: str, text: str) -> None:
    """Without losing which keys have dots."""
    assert dotted(pointer) == text


def test_what_containers_wrote_cannot_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Values come from a cluster: control characters are replaced."""
    fields = [{"pointer": "/data/a", "before": '"\x1b[2J"', "after": None}]
    plan = planned(scripted({"type": "planned", "object": WEB, "action": "changed", "fields": fields}, ANSWER[5]))
    show_plan(Terminal(), plan, is_whole=False)
    assert click.unstyle(out := capsys.readouterr().out) == out
    assert "data.a: " in out
    assert "→ (none)" in out
