"""The `fairlead` command against a real relay, with a scripted agent at the far end."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fairlead_shared.bundle import Bundle, BundleHash, read_bundle
from fairlead_shared.drift import DriftedObject, DriftKind, DriftMode, DriftStatus
from fairlead_shared.errors import ErrorCode
from fairlead_shared.frames import DriftAck, DriftReport, JobCancel, JobRefuse
from fairlead_shared.jobs import JobKind
from fairlead_shared.objects import ObjectRef
from fairlead_shared.progress import (
    Action,
    FieldChange,
    FindingEvent,
    HealthEvent,
    HealthStatus,
    ObjectEvent,
    Outcome,
    PlannedEvent,
    Step,
)
from fairlead_shared.sealing import SealContext, unseal
from fairlead_shared.statement import Strategy
from tests.cluster.debian import ensure_packages
from tests.integration.developer import Developer, screen
from tests.integration.relay_process import RelayProcess
from tests.integration.scripted_agent import AgentConnection, ScriptedAgent, step
from tests.polling import PATIENCE_SECONDS

WEB = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: web\ndata:\n  version: '{version}'\n"
SECRET = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\nstringData:\n  password: hunter2\n"
WEB_REF = ObjectRef(api_version="v1", kind="ConfigMap", namespace="shop", name="web")
DEPLOY = ("deploy", "-f", "k8s", "--env", "shop/staging")


@dataclass(frozen=True)
class Team:
    """A developer who is logged in, and the agent of their cluster."""

    developer: Developer
    organization: str
    enrolment: str

    async def enrol(self, relay: RelayProcess) -> ScriptedAgent:
        """Enrol the cluster's agent."""
        return await ScriptedAgent.enrol(relay.agent_url, self.enrolment)


async def set_up(relay: RelayProcess, home: Path, token: str, organization: str) -> Team:
    """Do by command what comes before a first deployment."""
    developer = Developer(home)
    said = await developer.must("login", relay.api_url, "--ca-file", str(relay.ca_file), stdin=token)
    assert f"as admin of {organization}" in said.stderr
    await developer.must("cluster", "create", "harbour", "--token-file", "token")
    await developer.must("app", "create", "shop")
    where = ("--type", "staging", "--cluster", "harbour", "--namespace", "shop")
    await developer.must("env", "create", "shop/staging", *where)
    developer.write("k8s/web.yaml", WEB.format(version=1))
    return Team(developer, organization, (home / "token").read_text())


@pytest.fixture
def organization(request: pytest.FixtureRequest) -> str:
    """Name an organization that no other test uses."""
    return "cli-" + re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[-50:].strip("-")


@pytest.fixture
def token(relay: RelayProcess, organization: str) -> str:
    """Make an administrator's token, before any loop runs."""
    return relay.token("admin", organization)


@pytest.fixture
async def team(relay: RelayProcess, tmp_path: Path, token: str, organization: str) -> Team:
    """Set a team up on the shared relay."""
    return await set_up(relay, tmp_path, token, organization)


async def take(agent: AgentConnection) -> tuple[str, int]:
    """Take the next deployment, and return its job with the lease's token."""
    offer = await agent.wait_offer()
    await agent.accept(offer)
    return offer.job_id, offer.token


async def deploy_through(agent: AgentConnection, *, action: Action = Action.CREATED) -> Bundle:
    """Carry the next deployment out, as far as a cluster that is not there allows."""
    offer = await agent.wait_offer()
    sha256 = agent.statement(offer).bundle_sha256
    await agent.accept(offer)
    content = await agent.fetch(sha256)
    changed = ObjectEvent(key="object/web", at=time.time(), object=WEB_REF, action=action)
    healthy = HealthEvent(key="health/web", at=time.time(), object=WEB_REF, status=HealthStatus.HEALTHY)
    begun, ended = step(Step.APPLY), step(Step.APPLY, "finished")
    await agent.report(offer.job_id, offer.token, begun, changed, ended, healthy)
    await agent.finish(offer.job_id, offer.token)
    return read_bundle(content, BundleHash(sha256))


async def test_from_login_to_rollback(relay: RelayProcess, team: Team) -> None:
    """The whole way, each command as the documentation shows it; the Secret only the agent can read."""
    developer, agent = team.developer, await team.enrol(relay)
    developer.write("k8s/db.yaml", SECRET)
    async with agent.connect() as connection:
        async with developer.start(*DEPLOY, "--watch") as watching:
            bundle = await deploy_through(connection)
            watched = await watching.end()
        assert watched.code == 0, watched
        assert "created ConfigMap shop/web" in watched.stdout
        assert "pinned the sealing key" in watched.stderr
        assert "succeeded in" in watched.stderr
        [secret] = [one for one in bundle.objects() if one["kind"] == "Secret"]
        context = SealContext(team.organization, "shop", "staging", "shop", "db")
        assert unseal(secret["sealedData"], context, [agent.sealing_key]) == {"password": b"hunter2"}

        developer.write("k8s/web.yaml", WEB.format(version=2))
        second, _ = await asyncio.gather(developer.must(*DEPLOY, "--watch", "-o", "json"), deploy_through(connection))
        assert second.json()["state"] == "succeeded"
        back, old = await asyncio.gather(
            developer.must("rollback", "shop/staging", "--watch", "-o", "json"), deploy_through(connection)
        )
        assert back.json()["rollback"] is True
        assert old.sha256 == bundle.sha256

        listed = await developer.must("deployments", "list", "shop/staging", "-o", "json")
        assert [one["state"] for one in listed.json()["items"]] == ["succeeded"] * 3
        shown = (await developer.must("env", "show", "shop/staging", "-o", "json")).json()
        assert shown["current"]["id"] == back.json()["id"]
        assert "connected" in (await developer.must("cluster", "list")).stdout
        events = await developer.must("events", back.json()["id"], "-o", "json")
        assert len(events.stdout.splitlines()) >= 6
        assert "Relay:" in (await developer.must("version")).stdout


async def test_a_failure_says_why_and_where_first(relay: RelayProcess, team: Team) -> None:
    """Exit code 5; file and line of the object; the remedy as the agent gives it."""
    agent = await team.enrol(relay)
    async with agent.connect() as connection, team.developer.start(*DEPLOY, "--watch") as watching:
        job_id, lease = await take(connection)
        finding = FindingEvent(
            key="finding/1",
            at=time.time(),
            severity="error",
            code=ErrorCode.FORBIDDEN,
            object=WEB_REF,
            message="the agent may not create it",
            remedy="rules:\n- verbs: [create]",
        )
        await connection.report(job_id, lease, finding)
        await connection.finish(job_id, lease, Outcome.FAILED, "1 of 1 objects was refused")
        ended = await watching.end()
    assert ended.code == 5
    lines = ended.stderr.splitlines()
    assert lines[0].startswith("error: deployment ")
    assert lines[0].endswith("of shop/staging: failed: 1 of 1 objects was refused")
    assert lines[1:] == [
        "  ConfigMap shop/web (k8s/web.yaml:1): the agent may not create it (forbidden)",
        "    rules:",
        "    - verbs: [create]",
    ]


async def test_an_absent_agent_is_waited_for_visibly(relay: RelayProcess, team: Team) -> None:
    """Deploying is accepted, the reason is shown, and what waits can be cancelled."""
    await team.enrol(relay)
    developer = team.developer
    made = (await developer.must(*DEPLOY, "-o", "json")).json()
    assert "waits for agent" in made["reason"]
    assert "waits for agent" in (await developer.must("deployments", "show", made["id"])).stdout
    status = await developer.run("status", "shop/staging", "--timeout", "1")
    assert status.code == 8
    # The relay ends the check at the same moment as the command stops waiting: either may be first.
    assert re.search(r"^cause: (waits|its deadline passed while it waited) for agent: ", status.stdout, re.MULTILINE)
    async with developer.start("deployments", "show", made["id"], "--watch") as watching:
        await watching.wait_for("job queued")
        await developer.must("deployments", "cancel", made["id"])
        ended = await watching.end()
    assert ended.code == 3
    assert "cancelled" in ended.stderr


async def test_a_time_limit_ends_deployment_and_watching(team: Team) -> None:
    """Exit code 3; the deployment does not start later, when nobody watches any more."""
    ended = await team.developer.run(*DEPLOY, "--watch", "--timeout", "1s")
    assert ended.code == 3, ended
    [deployment] = (await team.developer.must("deployments", "list", "shop/staging", "-o", "json")).json()["items"]
    assert deployment["state"] == "expired"


async def test_ctrl_c_detaches(relay: RelayProcess, team: Team) -> None:
    """Exit code 8, how to go on, and the deployment ends all the same."""
    agent = await team.enrol(relay)
    async with agent.connect() as connection:
        async with team.developer.start(*DEPLOY, "--watch") as watching:
            job_id, lease = await take(connection)
            await watching.wait_for("job running")
            watching.interrupt()
            ended = await watching.end()
        assert ended.code == 8, ended
        match = re.search(r"'fairlead (deployments show \w+ --watch)'", ended.stderr)
        assert match, ended.stderr
        async with team.developer.start(*match[1].split()) as resumed:
            await connection.finish(job_id, lease)
            assert (await resumed.end()).code == 0


async def test_a_second_ctrl_c_offers_to_cancel(relay: RelayProcess, team: Team) -> None:
    """On a terminal: the first detaches, the second asks, and a yes is watched to its end."""
    agent = await team.enrol(relay)
    with screen() as (reader, writer):
        seen = bytearray()

        async def read_until(text: str) -> None:
            while text.encode() not in seen:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    seen.extend(await asyncio.to_thread(os.read, reader, 65_536))

        all_three = {"stdin": writer, "stdout": writer, "stderr": writer}
        async with agent.connect() as connection, team.developer.start(*DEPLOY, "--watch", **all_three) as watching:
            job_id, lease = await take(connection)
            await read_until("running")
            watching.interrupt()
            await read_until("Ctrl-C again to cancel")
            watching.interrupt()
            await read_until("Cancel deployment")
            os.write(reader, b"y\n")
            await connection.wire.wait_message(JobCancel)
            await connection.finish(job_id, lease, Outcome.CANCELLED, "cancelled by a person")
            assert (await watching.end()).code == 3
    assert b"detached: the deployment goes on" in seen


async def test_watching_survives_the_relays_death(own_relay: RelayProcess, tmp_path: Path, own_token: str) -> None:
    """Killed without warning and started again: each event once, and the end is seen."""
    team = await set_up(own_relay, tmp_path, own_token, "survivors")
    agent = await team.enrol(own_relay)
    async with team.developer.start(*DEPLOY, "--watch") as watching:
        async with agent.connect() as connection:
            offer = await connection.wait_offer()
            await connection.accept(offer)
            seq = await connection.report(offer.job_id, offer.token, step(Step.VERIFY))
            await connection.wire.wait_acknowledged(offer.job_id, seq)
            await watching.wait_for("verify started")
            await asyncio.to_thread(own_relay.kill)
        await watching.wait_for("trying again")
        await asyncio.to_thread(own_relay.start)
        async with agent.connect() as connection:  # with no job in its hello: the relay offers it again
            await deploy_through(connection)
            ended = await watching.end()
    assert ended.code == 0, ended
    assert ended.stdout.count("verify started") == 1
    assert ended.stdout.count("created ConfigMap shop/web") == 1


@pytest.fixture
def own_token(own_relay: RelayProcess) -> str:
    """Make a token of the relay that is killed."""
    return own_relay.token("admin", "survivors")


async def test_a_terminal_shows_a_tree(relay: RelayProcess, team: Team) -> None:
    """Drawn in place, with the objects and their health."""
    agent = await team.enrol(relay)
    with screen() as (reader, writer):
        async with agent.connect() as connection, team.developer.start(*DEPLOY, "-w", stdout=writer) as watching:
            await deploy_through(connection)
            assert (await watching.end()).code == 0
        drawn = os.read(reader, 65_536).decode()
    assert "shop/staging on harbour" in drawn
    assert "└── " in drawn
    assert "Healthy" in drawn


async def test_status_asks_the_cluster(relay: RelayProcess, team: Team) -> None:
    """Headline, cause, tree; the exit code is the health."""
    agent = await team.enrol(relay)
    async with agent.connect() as connection:
        await asyncio.gather(team.developer.must(*DEPLOY, "--watch"), deploy_through(connection))
        async with team.developer.start("status", "shop/staging") as asking:
            offer = await connection.wait_offer()
            assert offer.job_kind == JobKind.HEALTH
            await connection.accept(offer)
            cause = "container web: out of memory"
            bad = HealthEvent(key="health/1", at=time.time(), object=WEB_REF, status=HealthStatus.DEGRADED, cause=cause)
            await connection.report(offer.job_id, offer.token, bad)
            await connection.finish(offer.job_id, offer.token)
            ended = await asking.end()
    assert ended.code == 5
    lines = ended.stdout.splitlines()
    assert lines[:2] == ["shop/staging: Degraded", f"cause: {cause}"]
    assert lines[-1] == f"└── ConfigMap shop/web (k8s/web.yaml:1)  Degraded: {cause}"


async def test_drift_is_what_the_agent_said_last(relay: RelayProcess, team: Team) -> None:
    """Who changed what, in a list of environments that there is some, and by exit code if asked for."""
    developer, agent = team.developer, await team.enrol(relay)
    field = FieldChange(pointer="/data/version", before='"1"', after='"2"')
    async with agent.connect() as connection:
        _, bundle = await asyncio.gather(developer.must(*DEPLOY, "--watch"), deploy_through(connection))
        unknown = await developer.run("drift", "shop/staging", "--exit-code")
        assert (unknown.code, unknown.stdout) == (8, "")
        report = DriftReport(
            environment=(team.organization, "shop", "staging"),
            revision=1,
            mode=DriftMode.REPORT,
            at=time.time(),
            bundle_sha256=bundle.sha256,
            objects=(
                DriftedObject(
                    object=WEB_REF,
                    drift=DriftKind.CHANGED,
                    status=DriftStatus.DRIFTED,
                    since=time.time() - 60,
                    managers=("kubectl-edit",),
                    fields=(field,),
                ),
            ),
            total=1,
        )
        await connection.wire.send(report)
        await connection.wire.wait_message(DriftAck)
    found = await developer.run("drift", "shop/staging", "--exit-code")
    assert found.code == 1
    first, second = found.stdout.splitlines()
    assert re.fullmatch(r"~ ConfigMap shop/web changed by kubectl-edit 1m\d+s ago", first)
    assert second == '    data.version: "1" → "2"'
    listed = await developer.must("env", "list")
    assert listed.stdout.splitlines()[1].endswith("1 object")


async def test_a_diff_is_the_agents_answer(relay: RelayProcess, team: Team) -> None:
    """Field by field, exit code 1; a dry-run tells the same, and neither deploys anything."""
    developer, agent = team.developer, await team.enrol(relay)
    developer.write("k8s/db.yaml", SECRET)
    fields = (
        FieldChange(pointer="/data/version", before='"0"', after='"1"'),
        FieldChange(pointer="/metadata/labels/app.kubernetes.io~1name", after='"web"'),
    )
    secret = replace(WEB_REF, kind="Secret", name="db")
    told = (
        PlannedEvent(key="planned/1", at=1, object=WEB_REF, action=Action.CHANGED, fields=fields),
        PlannedEvent(key="planned/2", at=1, object=secret, action=Action.UNCHANGED),
    )
    async with agent.connect() as connection:
        for command, code in ((("diff", *DEPLOY[1:]), 1), ((*DEPLOY, "--dry-run"), 0)):
            async with developer.start(*command) as asking:
                offer = await connection.wait_offer()
                assert (offer.job_kind, connection.statement(offer).strategy) == (JobKind.PLAN, Strategy.PLAN)
                await connection.accept(offer)
                content = await connection.fetch(connection.statement(offer).bundle_sha256)
                assert b"hunter2" not in content
                await connection.report(offer.job_id, offer.token, *told)
                await connection.finish(offer.job_id, offer.token)
                ended = await asking.end()
            assert ended.code == code, ended
            assert ended.stdout.splitlines()[:3] == [
                "~ ConfigMap shop/web (k8s/web.yaml:1) changed",
                '    data.version: "0" → "1"',
                '    metadata.labels["app.kubernetes.io/name"]: (none) → "web"',
            ]
        assert "  Secret shop/db (k8s/db.yaml:1) unchanged" in ended.stdout.splitlines()
    assert (await developer.must("deployments", "list", "shop/staging", "-o", "json")).json()["items"] == []


async def test_a_plan_without_an_agent_ends_with_the_reason(relay: RelayProcess, team: Team) -> None:
    """Exit code 8 once the time is over, and no job is left that would be done later."""
    await team.enrol(relay)
    ended = await team.developer.run("diff", *DEPLOY[1:], "--timeout", "2s")
    assert (ended.code, ended.stdout) == (8, "")
    assert "no plan after 2 s: waits for agent" in ended.stderr
    jobs = (await team.developer.must("jobs", "list", "-o", "json")).json()["items"]
    assert [(job["kind"], job["state"]) for job in jobs] == [("plan", "cancelled")]


async def test_an_agent_of_the_version_before_makes_no_plan(relay: RelayProcess, team: Team) -> None:
    """It says that it knows no such job; compared is what was deployed last, and that is said."""
    agent = await team.enrol(relay)
    async with agent.connect() as connection:
        await asyncio.gather(team.developer.must(*DEPLOY, "--watch"), deploy_through(connection))
        team.developer.write("k8s/web.yaml", WEB.format(version=2))
        async with team.developer.start("diff", *DEPLOY[1:]) as asking:
            offer = await connection.wait_offer()
            words = "this agent knows no job of kind 'plan'"
            said = {"code": ErrorCode.UNSUPPORTED, "message": words, "temporary": False}
            answered = {"job_id": offer.job_id, "attempt": offer.attempt, "token": offer.token}
            await connection.wire.send(JobRefuse.model_validate(said | answered))
            ended = await asking.end()
    assert ended.code == 1
    assert f"{words}. Compared with what was deployed last instead, which is not the cluster" in ended.stderr
    assert "+  version: '2'" in ended.stdout.splitlines()


async def test_who_may_only_look_compares_bundles(team: Team) -> None:
    """The relay asks no agent for a viewer."""
    viewer = (await team.developer.must("token", "create", "looks", "--role", "viewer")).stdout.strip()
    ended = await team.developer.run("diff", *DEPLOY[1:], FAIRLEAD_TOKEN=viewer)
    assert ended.code == 1
    assert "this token may not ask for a plan" in ended.stderr


async def test_bad_input_is_refused_before_anything_is_sent(team: Team) -> None:
    """Invalid YAML, an object twice, too large: one sentence with its place, exit code 1."""
    developer = team.developer
    for text, said in (
        ("a: [1\n", "k8s/x.yaml:2: this is not valid YAML"),
        (WEB.format(version=1), "k8s/x.yaml:1: ConfigMap shop/web is also at k8s/web.yaml:1"),
        (WEB.format(version="x" * 17_000_000).replace("web", "big"), "the limit is 16,777,216"),
    ):
        developer.write("k8s/x.yaml", text)
        ended = await developer.run(*DEPLOY)
        assert ended.code == 1
        assert said in ended.stderr
        assert len(ended.stderr.splitlines()) == 1
    assert (await developer.must("deployments", "list", "shop/staging", "-o", "json")).json()["items"] == []


async def test_shells_complete_what_is_there(team: Team) -> None:
    """Names of the relay for words half typed, and nothing at all when the relay cannot be asked."""

    async def completed(typed: str, **variables: str) -> list[str]:
        asked = {"_FAIRLEAD_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
        ended = await team.developer.run(**asked, **variables)
        assert ended.stderr == ""
        return ended.stdout.split()

    assert await completed("fairlead status sh") == ["plain,shop/staging"]
    assert await completed("fairlead cluster show h") == ["plain,harbour"]
    assert await completed("fairlead status sh", FAIRLEAD_SERVER="http://127.0.0.1:9", FAIRLEAD_TOKEN="flt_a_b") == []


@pytest.fixture(scope="module")
def shells() -> None:
    """Install the shells that people use beside bash."""
    ensure_packages(["zsh", "fish"])


@pytest.mark.parametrize(
    ("shell", "arguments", "set_up"),
    [
        ("bash", ("--norc", "-i"), "source <(fairlead completion bash); echo set-$((20 + 2))"),
        (
            "zsh",
            ("-f", "-i"),
            "autoload -Uz compinit && compinit -u -D; source <(fairlead completion zsh); echo set-$((20 + 2))",
        ),
        ("fish", ("--no-config", "-i"), "fairlead completion fish | source; echo set-(math 20 + 2)"),
    ],
)
@pytest.mark.usefixtures("shells")
async def test_a_shell_completes_at_the_tab_key(
    team: Team, shell: str, arguments: tuple[str, ...], set_up: str
) -> None:
    """The script that `completion` prints, in the shell itself: a name of the relay after half of it and a tab."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    async with team.developer.at_terminal(shell, *arguments, PATH=path, HOME=str(team.developer.home)) as terminal:
        terminal.type(f"{set_up}\n")
        await terminal.wait_for("set-22")
        terminal.type("fairlead status sh\t")
        await terminal.wait_for("shop/staging")


async def test_wrong_tokens_and_relays(
    relay: RelayProcess, team: Team, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """4 where the token is to blame, 1 where nobody answers; the sentence says what to do."""
    stranger = Developer(tmp_path_factory.mktemp("stranger"))
    unknown = "flt_aaaaaaaaaaaaaaaa_" + "b" * 32
    refused = await stranger.run("login", relay.api_url, "--ca-file", str(relay.ca_file), stdin=unknown)
    assert (refused.code, "token is unknown" in refused.stderr) == (4, True)
    assert unknown not in refused.stderr
    untrusted = await stranger.run("login", relay.api_url, stdin=unknown)
    assert (untrusted.code, "--ca-file" in untrusted.stderr) == (1, True)
    nobody = await stranger.run("login", "http://127.0.0.1:9", stdin=unknown)
    assert (nobody.code, "no answer from the relay at http://127.0.0.1:9" in nobody.stderr) == (1, True)
    assert (await stranger.run("app", "list")).code == 4
    missing = await team.developer.run("deploy", "-f", "k8s", "--env", "shop/nowhere")
    assert (missing.code, "not_found" in missing.stderr) == (1, True)


async def test_a_viewer_may_look_only(relay: RelayProcess, team: Team, viewer_token: str) -> None:
    """The role that is needed is named."""
    viewer = Developer(team.developer.home / "viewer")
    viewer.home.mkdir()
    viewer.write("k8s/web.yaml", WEB.format(version=1))
    await viewer.must("login", relay.api_url, "--ca-file", str(relay.ca_file), stdin=viewer_token)
    await viewer.must("env", "show", "shop/staging")
    ended = await viewer.run(*DEPLOY)
    assert ended.code == 4
    assert "needs the role deployer" in ended.stderr


@pytest.fixture
def viewer_token(relay: RelayProcess, organization: str) -> str:
    """Make a viewer's token."""
    return relay.token("viewer", organization)
