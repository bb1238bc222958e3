"""Hooks on a real API server: killed anywhere none of them runs twice, and what is wrong with one is told first."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fairlead_agent.apply.inventory import NO_HOOKS
from fairlead_agent.kube.access import ClusterAccess
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.resources import NAMESPACES
from fairlead_agent.kube.watch import Watch
from fairlead_agent.policy import Policy
from fairlead_agent.ports import DeployResult
from fairlead_shared.errors import ErrorCode
from fairlead_shared.progress import Outcome
from fairlead_shared.statement import Strategy
from tests.cluster.access import socket_factory
from tests.cluster.cluster import Cluster
from tests.e2e.engine_world import (
    APPLICATION_RULES,
    Checkpoint,
    Story,
    World,
    config_map,
    deployment,
    in_namespace,
    world,
)
from tests.e2e.test_engine_crash import Fate, MortalClient, live_or_die
from tests.e2e.test_engine_deploy import MAKER_RULES
from tests.polling import PATIENCE_SECONDS, eventually

STATUS_RULE = {"apiGroups": ["batch"], "resources": ["jobs/status"], "verbs": ["patch"]}


def hook(name: str, moments: str, **annotations: str) -> dict[str, Any]:
    """Return a Job as a hook, which no controller touches: it ends when a test says so."""
    named = {f"fairlead.dev/hook-{key}": value for key, value in annotations.items()}
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "none"}]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "annotations": {"fairlead.dev/hook": moments, **named}},
        "spec": {"managedBy": "tests.fairlead.dev/nobody", "backoffLimit": 0, "template": template},
    }


class Runner:
    """Ends each Job of a namespace as soon as it is there, and remembers every one."""

    def __init__(self, client: KubeClient, namespace: str) -> None:
        self.ran: defaultdict[str, set[str]] = defaultdict(set)
        """Name → UIDs."""
        self.failing: set[str] = set()
        """Names of those that are to fail."""
        self.endless: set[str] = set()
        """Names of those that are not to end."""
        self._client = client
        self._namespace = namespace

    async def run(self) -> None:
        """End Jobs until cancelled."""
        jobs = await self._client.resolve("batch/v1", "Job")
        changed = asyncio.Event()
        watch = Watch(self._client, jobs, self._namespace, lambda live: live["metadata"], lambda _: changed.set())
        async with asyncio.TaskGroup() as group:
            group.create_task(watch.run())
            while await changed.wait():
                changed.clear()
                for metadata in list(watch.objects.values()):
                    if metadata["name"] in self.endless:
                        continue
                    if metadata["uid"] not in self.ran[metadata["name"]] and "deletionTimestamp" not in metadata:
                        self.ran[metadata["name"]].add(metadata["uid"])
                        path, at = jobs.path(self._namespace, metadata["name"]), metadata["creationTimestamp"]
                        await self._end(path, at, fails=metadata["name"] in self.failing)

    async def _end(self, path: str, at: str, *, fails: bool) -> None:
        conditions = [
            {"type": kind, "status": "True", "lastProbeTime": at, "lastTransitionTime": at}
            for kind in (("FailureTarget", "Failed") if fails else ("SuccessCriteriaMet", "Complete"))
        ]
        ended = {"failed": 1} if fails else {"completionTime": at, "succeeded": 1}
        status = {"startTime": at, "conditions": conditions, **ended}
        await self._client.transport.request(
            "PATCH",
            f"{path}/status",
            what="status",
            body={"status": status},
            content_type="application/merge-patch+json",
        )


@asynccontextmanager
async def running(place: World, namespace: str = "") -> AsyncIterator[Runner]:
    """Have the Jobs of a namespace end, the world's if none is named, by a client that no fate meets."""
    access = ClusterAccess(place.cluster.server, place.cluster.ca_file, place.directory / "token")
    async with KubeClient(access, socket_factory=socket_factory(place.cluster.netns)) as client:
        runner = Runner(client, namespace or place.namespace)
        task = asyncio.create_task(runner.run())
        try:
            yield runner
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def bundle(number: int) -> list[dict[str, Any]]:
    """Return what is deployed, with a change in it."""
    return [
        hook("migrate", "before"),
        config_map("settings", number=str(number)),
        hook("check", "after", delete="succeeded"),
        hook("alarm", "failure"),
    ]


@pytest.mark.timeout(600)
async def test_killed_at_any_write_no_hook_runs_twice(control_plane: Cluster, tmp_path: Path) -> None:
    """Before and after each write: each hook ran once, the same is told, and nothing is left that should be gone."""
    rules = [*APPLICATION_RULES, STATUS_RULE]
    async with world(control_plane, tmp_path, rules=rules, client_type=MortalClient) as place, running(place) as runner:

        async def attempt(number: int, fate: Fate) -> tuple[dict[str, str], dict[str, int], set[str]]:
            before = {name: len(uids) for name, uids in runner.ran.items()}
            work, checkpoint, story = place.work(bundle(number), wait_seconds=60.0), Checkpoint(), Story()
            MortalClient.fate = fate
            outcome = await live_or_die(place, work, story, checkpoint)
            assert (outcome is None) == (fate.at_write > 0)
            if outcome is None:
                MortalClient.fate, story = Fate(), Story()
                again = await place.engine().run(work, story.report, checkpoint)
                assert again.outcome is Outcome.SUCCEEDED, again.cause
            assert (await place.live("configmap", "settings"))["data"] == {"number": str(number)}
            ran = {name: len(uids) - before.get(name, 0) for name, uids in runner.ran.items()}
            return story.actions(), ran, {owned.ref.name for owned in (await place.owned()).objects if owned.uid}

        await attempt(0, Fate())
        undisturbed = Fate()
        expected = await attempt(1, undisturbed)
        names = {name.rpartition("/")[2]: action for name, action in expected[0].items()}
        assert names == {"migrate": "recreated", "settings": "changed", "check": "pruned"}
        assert expected[1:] == ({"migrate": 1, "check": 1}, {"migrate", "settings"})
        # Seven changes of the inventory, two deletes and three objects.
        points = undisturbed.writes
        print(f"{points} writes, {2 * points} fault points")
        assert points == 12
        for number in range(1, points + 1):
            for after in (False, True):
                found = await attempt(2 * number + after, Fate(number, after))
                assert found == expected, f"killed {'after' if after else 'before'} write {number} of {points}"


def deleted(number: int) -> list[dict[str, Any]]:
    """Return what is deployed and deleted again, with a change in it."""
    return [
        config_map("settings", number=str(number)),
        hook("backup", "before-delete"),
        hook("goodbye", "after-delete", delete="succeeded"),
    ]


@pytest.mark.timeout(600)
async def test_a_deletion_killed_after_any_write_runs_no_hook_twice(control_plane: Cluster, tmp_path: Path) -> None:
    """Each ran once, the same is told, no object is left, and the inventory names no hooks any more."""
    rules = [*APPLICATION_RULES, STATUS_RULE]
    async with world(control_plane, tmp_path, rules=rules, client_type=MortalClient) as place, running(place) as runner:

        async def attempt(number: int, fate: Fate, *, is_told: bool = True) -> tuple[dict[str, str], dict[str, int]]:
            MortalClient.fate = Fate()
            assert (await place.deploy(deleted(number), wait_seconds=60.0))[0].outcome is Outcome.SUCCEEDED
            before = {name: len(uids) for name, uids in runner.ran.items()}
            work = place.work([], wait_seconds=60.0, strategy=Strategy.DESTROY)
            checkpoint, story, MortalClient.fate = Checkpoint(), Story(), fate
            outcome = await live_or_die(place, work, story, checkpoint)
            assert (outcome is None) == (fate.at_write > 0)
            if outcome is None:
                MortalClient.fate, story = Fate(), Story() if is_told else story
                again = await place.engine().run(work, story.report, checkpoint)
                assert (again.outcome, again.cause) == (Outcome.SUCCEEDED, "")
            assert await place.live("configmap", "settings") == await place.live("job", "backup") == {}
            owned = await place.owned()
            assert (owned.objects, owned.deletion_hooks, owned.is_being_deleted) == ((), NO_HOOKS, False)
            return story.actions(), {name: len(uids) - before.get(name, 0) for name, uids in runner.ran.items()}

        undisturbed = Fate()
        expected = await attempt(0, undisturbed)
        names = {name.rpartition("/")[2]: action for name, action in expected[0].items()}
        assert names == {"settings": "pruned", "backup": "pruned", "goodbye": "pruned"}
        assert expected[1] == {"backup": 1, "goodbye": 1}
        # Ten changes of the inventory and the part that goes with the last, three deletes, two Jobs.
        points = undisturbed.writes
        assert points == 16
        for number in range(1, points + 1):
            # With its last two writes the hooks are forgotten: what was told of them before is all there is.
            found = await attempt(number, Fate(number, after=True), is_told=number < points - 1)
            assert found == expected, f"killed after write {number} of {points}"


async def test_a_deletion_that_failed_goes_on_behind_what_ran_before_it(control_plane: Cluster, tmp_path: Path) -> None:
    """A retry makes no backup of what is gone; what is deployed in between has one again."""
    async with (
        world(control_plane, tmp_path, rules=[*APPLICATION_RULES, STATUS_RULE]) as place,
        running(place) as runner,
    ):
        seed = config_map("seed")
        seed["metadata"]["annotations"] = {"fairlead.dev/hook": "before-delete", "fairlead.dev/hook-weight": "-1"}

        async def destroyed(cause: str) -> tuple[int, int]:
            result, _ = await place.destroy(wait_seconds=60.0)
            assert result.cause.startswith(cause), result.cause
            assert await place.live("configmap", "settings") == {}
            assert (await place.owned()).is_being_deleted == bool(cause)
            return len(runner.ran["backup"]), len(runner.ran["goodbye"])

        runner.failing = {"goodbye", "check"}
        assert (await place.deploy([*deleted(0), seed], wait_seconds=60.0))[0].outcome is Outcome.SUCCEEDED
        failed = f"the hook that runs after deletion, Job {place.namespace}/goodbye failed"
        assert [await destroyed(failed), await destroyed(failed)] == [(1, 1), (1, 2)]
        # What made things again may have failed: they are there.
        again = await place.deploy([*deleted(1), seed, hook("check", "after")], wait_seconds=60.0)
        assert again[0].outcome is Outcome.FAILED
        assert await place.live("configmap", "settings")
        runner.failing = set()
        assert [await destroyed(""), await destroyed("")] == [(2, 3), (2, 3)]
        assert (await place.owned()).objects == ()
        assert await place.live("configmap", "seed") == await place.live("job", "goodbye") == {}


async def test_a_cancelled_deletion_goes_on_behind_what_ran_before_it(control_plane: Cluster, tmp_path: Path) -> None:
    """As one that failed: what it deleted is as gone, and a backup of it would be of nothing."""
    async with (
        world(control_plane, tmp_path, rules=[*APPLICATION_RULES, STATUS_RULE]) as place,
        running(place) as runner,
    ):
        assert (await place.deploy(deleted(0), wait_seconds=60.0))[0].outcome is Outcome.SUCCEEDED
        runner.endless = {"goodbye"}
        first, story = place.work([], wait_seconds=3600, strategy=Strategy.DESTROY), Story()
        deleting = asyncio.create_task(place.engine().run(first, story.report, Checkpoint()))

        async def is_waiting() -> bool:
            return any(event.object.name == "goodbye" for event in story.of("health"))

        await eventually(is_waiting, "the deletion to wait for the hook after it")
        deleting.cancel()
        await asyncio.wait([deleting], timeout=PATIENCE_SECONDS)
        assert deleting.cancelled()
        runner.endless = set()
        result, story = await place.destroy(wait_seconds=60.0)
        assert (result.outcome, result.cause) == (Outcome.SUCCEEDED, "")
        (told,) = (event.detail for event in story.of("object") if event.action == "skipped")
        assert told == "hook: ran before deletion, in an earlier try"
        assert len(runner.ran["backup"]) == 1
        assert (await place.owned()).objects == ()


async def test_a_deletion_runs_what_succeeded_last_brought(control_plane: Cluster, tmp_path: Path) -> None:
    """Not what failed since, nor what was rolled back. Where that is lost nothing is deleted, unless one says so."""
    with_hook = [config_map("settings"), hook("backup", "before-delete")]
    async with (
        world(control_plane, tmp_path, rules=[*APPLICATION_RULES, STATUS_RULE]) as place,
        running(place) as runner,
    ):

        async def deploy(*manifests: dict[str, Any], fails: bool = False, **changes: bool) -> None:
            work = place.work(manifests, wait_seconds=60.0)
            marked = replace(work, statement=work.statement.model_copy(update=changes))
            result = await place.engine().run(marked, Story().report, Checkpoint())
            assert result.outcome is (Outcome.FAILED if fails else Outcome.SUCCEEDED), result.cause

        async def destroyed(strategy: Strategy = Strategy.DESTROY) -> tuple[str, list[str], int]:
            result, story = await place.destroy(wait_seconds=60.0, strategy=strategy)
            assert (await place.live("configmap", "settings") == {}) == (result.outcome is Outcome.SUCCEEDED)
            return result.cause, [one.message for one in story.of("finding")], len(runner.ran["backup"])

        runner.failing = {"migrate"}
        await deploy(*with_hook)
        await deploy(config_map("settings"), hook("migrate", "before"), fails=True)
        assert (await destroyed())[2] == 1
        await deploy(*with_hook)
        await deploy(config_map("settings"), rollback=True)
        assert (await destroyed())[2] == 1

        await deploy(*with_hook)
        await place.kubectl("delete", "configmap", "--all", "-n", place.agent_namespace)
        cause, _, ran = await destroyed()
        assert (cause, ran) == ("whether hooks run at deletion is not known: its inventory was lost", 1)
        assert await destroyed(Strategy.DESTROY_WITHOUT_HOOKS) == (
            "",
            ["the environment's inventory was lost; its labels name 1 object"],
            1,
        )

        await deploy(*with_hook)
        of_the_version_before = '[{"op": "remove", "path": "/data/deletion_hooks"}]'
        name = f"fairlead-environment-{place.environment.owner}"
        await place.kubectl(
            "patch", "configmap", name, "-n", place.agent_namespace, "--type=json", "-p", of_the_version_before
        )
        assert await destroyed() == (
            "",
            ["whether hooks run at deletion is not known: an agent of an earlier version deployed it"],
            1,
        )


async def test_cancelled_while_it_waits_for_a_hook_it_ends_at_once(control_plane: Cluster, tmp_path: Path) -> None:
    """And the same deployment goes on with the Job that it left, after a restart."""
    async with world(control_plane, tmp_path, rules=[*APPLICATION_RULES, STATUS_RULE]) as place:
        work, checkpoint, story = place.work(bundle(0), wait_seconds=3600), Checkpoint(), Story()
        first = asyncio.create_task(place.engine().run(work, story.report, checkpoint))

        async def is_waiting() -> bool:
            return bool(story.of("health"))

        await eventually(is_waiting, "the engine to wait for the hook")
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(first, PATIENCE_SECONDS)
        uid = (await place.live("job", "migrate"))["metadata"]["uid"]
        async with running(place) as runner:
            result = await place.engine().run(work, story.report, checkpoint)
            assert (result.outcome, result.cause) == (Outcome.SUCCEEDED, "")
            assert runner.ran["migrate"] == {uid}


def of_helm(name: str, moments: str) -> dict[str, Any]:
    """Return a Job as a hook of a chart."""
    made = hook(name, "")
    return made | {"metadata": {"name": name, "annotations": {"helm.sh/hook": moments}}}


async def test_a_rollback_runs_what_is_meant_for_it(control_plane: Cluster, tmp_path: Path) -> None:
    """Fairlead's own as in any deployment; of a chart, what Helm would run in a rollback."""
    hooks = [
        hook("always", "before"),
        of_helm("forth", "pre-upgrade"),
        of_helm("back", "pre-rollback"),
        of_helm("both", "post-install,post-rollback"),
    ]
    async with (
        world(control_plane, tmp_path, rules=[*APPLICATION_RULES, STATUS_RULE]) as place,
        running(place) as runner,
    ):
        result, _ = await place.deploy([*hooks, config_map("settings")], wait_seconds=60.0)
        assert (result.outcome, set(runner.ran)) == (Outcome.SUCCEEDED, {"always", "both"})
        work = place.work([*hooks, config_map("settings", old="yes")], wait_seconds=60.0)
        back = replace(work, statement=work.statement.model_copy(update={"rollback": True}))
        result = await place.engine().run(back, Story().report, Checkpoint())
        assert (result.outcome, result.cause) == (Outcome.SUCCEEDED, "")
        assert {name: len(uids) for name, uids in runner.ran.items()} == {"always": 2, "both": 2, "back": 1}


async def test_a_hook_in_a_namespace_of_the_bundle_runs_before_its_other_members(
    control_plane: Cluster, tmp_path: Path
) -> None:
    """Only the namespace is there earlier; the hook is proved once it is."""
    rules = [*MAKER_RULES, STATUS_RULE]
    async with world(control_plane, tmp_path, cluster_rules=rules) as place:
        inner = f"{place.namespace}-inner"
        namespaces = {"group": "", "kind": "Namespace", "names": [inner]}
        place.policy = Policy.model_validate({"clusterScoped": [namespaces]})
        manifests = [in_namespace(one, inner) for one in bundle(0)]
        manifests += [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": inner, "namespace": None}},
            config_map("outside"),
            in_namespace(hook("goodbye", "after-delete"), inner),
        ]
        async with running(place, inner) as runner:
            result, story = await place.deploy(manifests, wait_seconds=60.0, namespaces=(place.namespace, inner))
        assert (result.outcome, result.cause) == (Outcome.SUCCEEDED, "")
        told = [event.object.name for event in story.of("object")]
        assert told[:3] == ["goodbye", inner, "migrate"]
        assert set(told[3:5]) == {"settings", "outside"}
        assert told[5:] == ["check", "check"]
        assert {name: len(uids) for name, uids in runner.ran.items()} == {"migrate": 1, "check": 1}
        result, story = await place.destroy(namespaces=(place.namespace,))
        assert (result.code, story.of("object")) == (ErrorCode.NOT_BOUND, [])
        async with running(place, inner) as runner:
            result, story = await place.destroy(wait_seconds=60.0, namespaces=(place.namespace, inner))
        assert (result.outcome, result.cause) == (Outcome.SUCCEEDED, "")
        told = [(event.object.name, str(event.action)) for event in story.of("object")]
        assert told[-3:] == [("goodbye", "created"), ("goodbye", "pruned"), (inner, "pruned")]


class NamespaceClient(MortalClient):
    """One that dies when it has deleted a namespace, if it is to die."""

    dies = False

    async def delete(self, *args: Any, dry_run: bool = False, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401  (handed on)
        """Delete, and be dead then."""
        if args[0] == NAMESPACES and not dry_run and NamespaceClient.dies:
            MortalClient.fate = Fate(MortalClient.fate.writes + 1, after=True, writes=MortalClient.fate.writes)
        return await super().delete(*args, dry_run=dry_run, **kwargs)


async def test_a_deletion_killed_when_its_namespaces_are_gone_ends_well(control_plane: Cluster, tmp_path: Path) -> None:
    """The hooks that ran there could not be proved again: nothing can be made in them any more."""
    rules = [*MAKER_RULES, STATUS_RULE]
    async with world(control_plane, tmp_path, cluster_rules=rules, client_type=NamespaceClient) as place:
        inner = f"{place.namespace}-inner"
        place.policy = Policy.model_validate({"clusterScoped": [{"group": "", "kind": "Namespace", "names": [inner]}]})
        both = (place.namespace, inner)
        founding = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": inner, "namespace": None}}
        hooks = [in_namespace(hook(name, f"{name}-delete"), inner) for name in ("before", "after")]
        MortalClient.fate = Fate()
        async with running(place, inner) as runner:
            result, _ = await place.deploy([founding, *hooks], wait_seconds=60.0, namespaces=both)
            assert (result.outcome, result.cause) == (Outcome.SUCCEEDED, "")
            work = place.work([], wait_seconds=60.0, namespaces=both, strategy=Strategy.DESTROY)
            checkpoint, NamespaceClient.dies = Checkpoint(), True
            assert await live_or_die(place, work, Story(), checkpoint) is None
            MortalClient.fate, NamespaceClient.dies = Fate(), False
            result = await place.engine().run(work, Story().report, checkpoint)
        assert (result.outcome, result.cause) == (Outcome.SUCCEEDED, "")
        assert {name: len(uids) for name, uids in runner.ran.items()} == {"before": 1, "after": 1}
        assert (await place.owned()).objects == ()


async def test_a_deletion_is_repeated_when_the_namespace_of_its_hooks_is_gone(
    control_plane: Cluster, tmp_path: Path
) -> None:
    """By a job that knows nothing of the first: what runs after it is named and left out, as it never can again."""
    rules = [*MAKER_RULES, STATUS_RULE]
    async with world(control_plane, tmp_path, cluster_rules=rules, client_type=NamespaceClient) as place:
        inner = f"{place.namespace}-inner"
        place.policy = Policy.model_validate({"clusterScoped": [{"group": "", "kind": "Namespace", "names": [inner]}]})
        both = (place.namespace, inner)
        founding = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": inner, "namespace": None}}
        hooks = [in_namespace(hook(name, f"{name}-delete"), inner) for name in ("before", "after")]
        MortalClient.fate = Fate()
        async with running(place, inner) as runner:
            deployed, _ = await place.deploy([founding, *hooks], wait_seconds=60.0, namespaces=both)
            assert (deployed.outcome, deployed.cause) == (Outcome.SUCCEEDED, "")
            work = place.work([], wait_seconds=60.0, namespaces=both, strategy=Strategy.DESTROY)
            NamespaceClient.dies = True
            assert await live_or_die(place, work, Story(), Checkpoint()) is None
            MortalClient.fate, NamespaceClient.dies = Fate(), False
            result, story = await place.destroy(wait_seconds=60.0, namespaces=both)
        assert (result.outcome, result.cause) == (Outcome.SUCCEEDED, "")
        (warning,) = (one for one in story.of("finding") if one.object is not None)
        assert (warning.severity, warning.object.name) == ("warning", "after")
        assert warning.message.startswith(f"it does not run: namespace {inner} is "), warning.message
        told = [(event.action, event.detail) for event in story.of("object") if event.object.name == "after"]
        assert told[0] == ("skipped", warning.message)
        assert {name: len(uids) for name, uids in runner.ran.items()} == {"before": 1, "after": 1}
        assert (await place.owned()).objects == ()


async def test_somebody_elses_object_is_no_hook_to_replace(control_plane: Cluster, tmp_path: Path) -> None:
    """A Job of that name which Fairlead did not make: refused, and it stays."""
    async with world(control_plane, tmp_path) as place:
        theirs = hook("migrate", "before")
        theirs["metadata"] = {"name": "migrate", "namespace": place.namespace}
        await place.create(theirs)
        before = await place.live("job", "migrate")
        result, story = await place.deploy(bundle(0))
        assert (result.outcome, result.code) == (Outcome.FAILED, ErrorCode.OWNED_BY_OTHER)
        (finding,) = [one for one in story.of("finding") if one.severity == "error"]
        assert "was not made by Fairlead" in finding.message
        assert await place.live("job", "migrate") == before
        assert await place.live("configmap", "settings") == {}


def field_of(finding: Any) -> tuple[str, str]:  # noqa: ANN401  (a finding of any story)
    """Return what a finding is about."""
    return finding.object.name, finding.field


async def refused(place: World, *manifests: dict[str, Any]) -> tuple[DeployResult, dict[tuple[str, str], str]]:
    """Deploy what cannot be; return the findings, each by its object and field."""
    result, story = await place.deploy(manifests)
    assert place.writes() == []
    return result, {field_of(one): one.message for one in story.of("finding") if one.object}


async def test_what_is_wrong_with_hooks_is_told_before_the_first_write(control_plane: Cluster, tmp_path: Path) -> None:
    """Words nobody knows, a template the API server refuses also where a Job is there, and one that comes too early."""
    async with world(control_plane, tmp_path, rules=[*APPLICATION_RULES, STATUS_RULE]) as place:
        misspelt, broken, early = hook("misspelt", "befor"), hook("broken", "after"), hook("early", "before")
        broken["spec"]["template"]["spec"]["restartPolicy"] = "Sometimes"
        unfit = hook("unfit", "before-delete")
        unfit["spec"]["template"]["spec"]["containers"] = []
        early["spec"]["template"]["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "settings"}}]
        late = deployment("web")
        late["metadata"]["annotations"] = {"fairlead.dev/depends-on": f"batch/namespaces/{place.namespace}/Job/broken"}
        result, found = await refused(place, misspelt, broken, early, late, unfit, config_map("settings"))
        assert result.outcome is Outcome.FAILED
        assert "'befor' is no moment" in found["misspelt", 'metadata.annotations["fairlead.dev/hook"]']
        assert 'Unsupported value: "Sometimes"' in found["broken", "spec.template.spec.restartPolicy"]
        assert "Required value" in found["unfit", "spec.template.spec.containers"]
        assert "runs before ConfigMap" in found["early", ""]
        depends = 'metadata.annotations["fairlead.dev/depends-on"]'
        assert "a hook that does not run before it" in found["web", depends]
