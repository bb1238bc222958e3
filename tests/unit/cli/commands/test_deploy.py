"""`fairlead deploy`: what is sent, in which order, and what stops it before."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from click.testing import Result

from fairlead_cli.manifest_files import Text
from fairlead_cli.manifests import read_manifests
from fairlead_shared.bundle import BundleHash, make_bundle, read_bundle
from tests.unit.cli.scripted_relay import (
    DEPLOYMENT_ID,
    ENVIRONMENT,
    FAILURE,
    ORGANIZATION,
    STORY,
    ScriptedRelay,
    deployment,
    environment,
    problem,
    stream,
)
from tests.unit.cli.test_bundling import CONFIG, SECRET, sealing_key
from tests.unit.cli.test_planning import job, told
from tests.unit.cli.test_programs import program

Fairlead = Callable[..., Result]
CREATE = f"POST {ENVIRONMENT}/deployments"
SHOWN = f"GET {ORGANIZATION}/deployments/{DEPLOYMENT_ID}"


class Calls:
    """The calls of one deployment, of which tests change some."""

    def __init__(self, relay: ScriptedRelay) -> None:
        self.relay = relay
        self.key = sealing_key()
        relay.answer(f"GET {ENVIRONMENT}", environment(sealing_key=self.key.model_dump()))
        relay.answer(CREATE, deployment())

    def accept_bundles(self, text: str) -> str:
        """Learn which bundle a text without Secrets makes, and accept it."""
        sha256 = make_bundle(one.manifest for one in read_manifests([Text("x", text)], "shop")).sha256
        self.relay.answer(f"HEAD {ORGANIZATION}/bundles/{sha256}", httpx.Response(404), httpx.Response(200))
        self.relay.answer(f"PUT {ORGANIZATION}/bundles/{sha256}", httpx.Response(201))
        return sha256


@pytest.fixture
def calls(relay: ScriptedRelay) -> Calls:
    """Write down what a deployment needs."""
    return Calls(relay)


def test_the_bundle_is_sent_once_and_then_the_deployment(
    fairlead: Fairlead, calls: Calls, relay: ScriptedRelay
) -> None:
    """The second time the relay has it already; each deployment has an id of its own."""
    sha256 = calls.accept_bundles(CONFIG)
    first = fairlead("deploy", "-f", "-", "--env", "shop/staging", "-o", "name", stdin=CONFIG)
    fairlead("deploy", "-f", "-", "--env", "shop/staging", stdin=CONFIG)
    assert (first.exit_code, first.stdout) == (0, f"{DEPLOYMENT_ID}\n")
    assert [call.partition(" ")[0] for call in relay.calls()] == ["GET", "HEAD", "PUT", "POST", "GET", "HEAD", "POST"]
    assert len(list(read_bundle(relay.requests[2].content, BundleHash(sha256)).objects())) == 1
    one, two = relay.bodies(CREATE)
    assert one.pop("deployment_id") != two.pop("deployment_id")
    assert one == two == {"bundle_sha256": sha256, "origins": {"ConfigMap shop/c": "<stdin>:1"}}


def test_a_rollback_is_asked_for_with_the_deployment(fairlead: Fairlead, calls: Calls, relay: ScriptedRelay) -> None:
    """The relay makes it when the time comes, whoever watches then."""
    calls.accept_bundles(CONFIG)
    assert fairlead("deploy", "-f", "-", "--env", "shop/staging", "--rollback-on-failure", stdin=CONFIG).exit_code == 0
    assert [body["rollback_on_failure"] for body in relay.bodies(CREATE)] == [True]


def test_a_time_limit_goes_to_the_agent_too(fairlead: Fairlead, calls: Calls, relay: ScriptedRelay) -> None:
    """The deployment must not go on for longer than anybody waits."""
    calls.accept_bundles(CONFIG)
    assert fairlead("deploy", "-f", "-", "--env", "shop/staging", "--timeout", "2m", stdin=CONFIG).exit_code == 0
    [body] = relay.bodies(CREATE)
    assert (body["wait_seconds"], body["deadline_seconds"]) == (120, 120)


def test_precedence_is_said_when_asked_for(fairlead: Fairlead, calls: Calls, relay: ScriptedRelay) -> None:
    """Otherwise the relay's own rule holds."""
    calls.accept_bundles(CONFIG)
    arguments = (
        "deploy",
        "-f",
        "-",
        "--env",
        "shop/staging",
        "--supersede",
        "--priority",
        "-7",
        "--recreate",
        "--adopt",
    )
    assert fairlead(*arguments, stdin=CONFIG).exit_code == 0
    [body] = relay.bodies(CREATE)
    assert (body["on_earlier"], body["priority"], body["consents"]) == ("supersede", -7, ["adopt", "recreate"])
    assert fairlead(*arguments[:5], "--priority", "101", stdin=CONFIG).exit_code == 2


def test_watching_shows_events_and_ends_with_the_outcome(
    fairlead: Fairlead, calls: Calls, relay: ScriptedRelay
) -> None:
    """A failure is 5, with the reason first."""
    calls.accept_bundles(CONFIG)
    relay.answer(f"{SHOWN}/events", stream(STORY), stream(FAILURE))
    relay.answer(SHOWN, deployment("succeeded"), deployment("failed", cause="Deployment web is not healthy"))
    arguments = ("deploy", "-f", "-", "--env", "shop/staging", "--watch")
    done = fairlead(*arguments, stdin=CONFIG)
    assert done.exit_code == 0
    assert "created Deployment shop/web" in done.stdout
    failed = fairlead(*arguments, stdin=CONFIG)
    assert failed.exit_code == 5
    assert "failed: Deployment web is not healthy" in failed.stderr
    assert "Deployment shop/web (k8s/web.yaml:7)" in failed.stderr


def test_secrets_are_sealed_and_their_key_pinned(
    fairlead: Fairlead, calls: Calls, relay: ScriptedRelay, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first use is said; another key later stops everything before it is sent."""
    monkeypatch.setattr("fairlead_cli.client.Client.has_bundle", lambda *_: False)
    sent: list[bytes] = []
    monkeypatch.setattr("fairlead_cli.client.Client.put_bundle", lambda _client, _sha256, content: sent.append(content))
    result = fairlead("deploy", "-f", "-", "--env", "shop/staging", stdin=SECRET)
    assert result.exit_code == 0
    assert f"pinned the sealing key acme/prod {calls.key.fingerprint}" in result.stderr
    assert b"hunter2" not in sent[0]
    assert b"sealedData" in sent[0]
    assert calls.key.fingerprint in (home / "known_recipients").read_text()
    relay.change(f"GET {ENVIRONMENT}", environment(sealing_key=sealing_key().model_dump()))
    changed = fairlead("deploy", "-f", "-", "--env", "shop/staging", stdin=SECRET)
    assert changed.exit_code == 1
    assert "the sealing key of cluster acme/prod changed" in changed.stderr
    assert len(sent) == 1


def test_wrong_input_sends_nothing(fairlead: Fairlead, calls: Calls, relay: ScriptedRelay, home: Path) -> None:
    """File and line, exit code 1."""
    (home / "a.yaml").write_text(CONFIG + "---\nkind: [\n")
    result = fairlead("deploy", "-f", str(home / "a.yaml"), "--env", "shop/staging")
    assert result.exit_code == 1
    assert f"{home}/a.yaml:7: this is not valid YAML" in result.stderr
    assert relay.calls() == [f"GET {ENVIRONMENT}"]


def test_a_chart_is_rendered_for_its_environment(
    fairlead: Fairlead, calls: Calls, relay: ScriptedRelay, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Release after the application, namespace of the environment; the origin is the template."""
    calls.accept_bundles(CONFIG)
    relay.answer(f"GET {ORGANIZATION}/clusters/prod", problem(403, "forbidden", "not yours"))
    program(
        home / "bin" / "helm",
        f'echo "$@" >> {home}/argv; printf -- "---\\n# Source: shop/t.yaml\\n"; cat <<E\n{CONFIG}E',
    )
    monkeypatch.setenv("PATH", f"{home}/bin:{os.environ['PATH']}")
    (home / "chart").mkdir()
    (home / "chart" / "Chart.yaml").write_text("name: shop\n")
    arguments = ("deploy", "-f", f"{home}/chart", "--env", "shop/staging")
    assert fairlead(*arguments, "--set", "a=b").exit_code == 0
    assert fairlead(*arguments, "--values", "v.yaml", "--release-name", "blue").exit_code == 0
    flags = "template --namespace=shop --include-crds --skip-tests"
    assert (home / "argv").read_text().splitlines() == [
        f"{flags} --set=a=b -- shop {home}/chart",
        f"{flags} --values=v.yaml -- blue {home}/chart",
    ]
    assert relay.bodies(CREATE)[0]["origins"] == {"ConfigMap shop/c": f"{home}/chart/t.yaml"}


DRY_RUN = ("deploy", "-f", "-", "--env", "shop/staging", "--dry-run")


def test_a_dry_run_asks_the_agent_and_deploys_nothing(fairlead: Fairlead, calls: Calls, relay: ScriptedRelay) -> None:
    """The whole plan, with what stays as it is; the exit code says whether it could be done."""
    sha256 = calls.accept_bundles(CONFIG)
    web = {"api_version": "v1", "kind": "ConfigMap", "namespace": "shop", "name": "c"}
    planned = {"type": "planned", "object": web, "action": "unchanged"}
    relay.answer(f"POST {ENVIRONMENT}/plans", job())
    refused = {"type": "result", "outcome": "failed", "cause": "no"}
    relay.answer(
        f"GET {ORGANIZATION}/jobs/plan1/events",
        told(planned, {"type": "result", "outcome": "succeeded"}),
        told(planned, refused),
    )
    plain = fairlead(*DRY_RUN, "--prune-many", "--timeout", "10s", stdin=CONFIG)
    assert (plain.exit_code, plain.stdout) == (0, "  ConfigMap shop/c (<stdin>:1) unchanged\n")
    assert plain.stderr == "1 unchanged; by the cluster's own dry-run. Nothing was changed.\n"
    assert relay.bodies(f"POST {ENVIRONMENT}/plans") == [
        {"bundle_sha256": sha256, "deadline_seconds": 15, "consents": ["prune"]}
    ]
    assert CREATE not in relay.calls()
    refusal = fairlead(*DRY_RUN, "-o", "json", stdin=CONFIG)
    assert (refusal.exit_code, json.loads(refusal.stdout)["is_possible"]) == (5, False)


def test_a_dry_run_without_a_plan_compares_bundles(
    fairlead: Fairlead, calls: Calls, relay: ScriptedRelay, home: Path
) -> None:
    """What would be done to each object, with its place; the hash, unless sealing makes another each time."""
    old = make_bundle([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "old", "namespace": "shop"}}])
    current = deployment("succeeded", bundle_sha256=old.sha256)
    relay.change(f"GET {ENVIRONMENT}", environment(sealing_key=calls.key.model_dump(), current=current, latest=current))
    relay.answer(f"GET {ORGANIZATION}/bundles/{old.sha256}", httpx.Response(200, content=old.content))
    sha256 = calls.accept_bundles(CONFIG)
    relay.answer(f"POST {ENVIRONMENT}/plans", problem(404, "not_found", "no such route"))
    plain = fairlead(*DRY_RUN, stdin=CONFIG)
    assert plain.exit_code == 0
    assert [line.split() for line in plain.stdout.splitlines()] == [
        ["OBJECT", "ACTION", "ORIGIN"],
        ["ConfigMap", "shop/c", "created", "<stdin>:1"],
        ["ConfigMap", "shop/old", "pruned", "-"],
    ]
    assert "knows no plans. Compared with what was deployed last instead" in plain.stderr
    assert f"1 created, 1 pruned; compared with deployment {DEPLOYMENT_ID}; bundle {sha256}, " in plain.stderr
    assert json.loads(fairlead(*DRY_RUN, "-o", "json", stdin=CONFIG).stdout)["bundle_sha256"] == sha256
    assert fairlead(*DRY_RUN, "-o", "name", stdin=CONFIG).stdout.splitlines() == [
        "ConfigMap shop/c",
        "ConfigMap shop/old",
    ]
    assert CREATE not in relay.calls()


def test_a_dry_run_cannot_be_watched(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """Whoever asks for both misunderstands one."""
    result = fairlead("deploy", "-f", "-", "--env", "shop/staging", "--dry-run", "--watch", stdin=CONFIG)
    assert result.exit_code == 2
    assert "exclude each other" in result.stderr


def test_options_of_charts_need_a_chart(fairlead: Fairlead, calls: Calls) -> None:
    """Otherwise somebody believes that their values were used."""
    result = fairlead("deploy", "-f", "-", "--values", "v.yaml", "--env", "shop/staging", stdin=CONFIG)
    assert result.exit_code == 2
    assert "there is no Chart.yaml in -" in result.stderr


def test_what_the_relay_refuses_is_said(fairlead: Fairlead, calls: Calls, relay: ScriptedRelay) -> None:
    """For example an unknown environment."""
    calls.accept_bundles(CONFIG)
    relay.answer(f"GET {ORGANIZATION}/applications/shop/environments/x", problem(404, "not_found", "no environment x"))
    relay.answer(f"GET {ORGANIZATION}/applications", {"items": []})
    relay.answer(f"GET {ORGANIZATION}/applications/shop/environments", {"items": []})
    result = fairlead("deploy", "-f", "-", "--env", "shop/x", stdin=CONFIG)
    assert (result.exit_code, result.stderr) == (1, "error: no environment x (not_found)\n")


def test_json_after_watching_is_the_ended_deployment(fairlead: Fairlead, calls: Calls, relay: ScriptedRelay) -> None:
    """And nothing else on stdout."""
    calls.accept_bundles(CONFIG)
    relay.answer(f"{SHOWN}/events", stream(STORY))
    relay.answer(SHOWN, deployment("succeeded"))
    result = fairlead("deploy", "-f", "-", "--env", "shop/staging", "--watch", "-o", "json", stdin=CONFIG)
    assert json.loads(result.stdout)["state"] == "succeeded"


def test_a_key_of_another_shape_is_refused(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """A relay that shows one fingerprint and gives another key gets no Secret."""
    key = sealing_key().model_copy(update={"fingerprint": sealing_key().fingerprint})
    relay.answer(f"GET {ENVIRONMENT}", environment(sealing_key=key.model_dump()))
    result = fairlead("deploy", "-f", "-", "--env", "shop/staging", stdin=SECRET)
    assert result.exit_code == 1
    assert "the relay names SHA256:" in result.stderr
