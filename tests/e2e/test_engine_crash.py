"""
The deploy engine killed at every write, before it and after it, and started again: it ends as if undisturbed.

The fault points are the writes themselves: a client that dies at the n-th of them and answers nothing more, as a killed
process would. What was on its way may or may not have arrived; both are tried.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fairlead_agent.kube.client import Applied, KubeClient
from fairlead_agent.kube.resources import Resource
from fairlead_agent.policy import Policy
from fairlead_agent.ports import DeployWork
from fairlead_shared.progress import Outcome
from fairlead_shared.statement import Consent
from tests.cluster.cluster import Cluster
from tests.e2e.engine_world import (
    Checkpoint,
    Story,
    World,
    application,
    config_map,
    deployment,
    in_namespace,
    world,
)


class Killed(BaseException):
    """The process is gone. No Exception: nothing in the engine may catch it."""


@dataclass(slots=True)
class Fate:
    """When the client dies."""

    at_write: int = 0
    """Number of the write, from 1; 0 for never."""
    after: bool = False
    """Whether the API server still carries that write out."""
    writes: int = 0
    dead: bool = False


class MortalClient(KubeClient):
    """A client that counts its writes and dies at one of them."""

    fate = Fate()

    async def apply(
        self, resource: Resource, manifest: Mapping[str, Any], *, dry_run: bool = False, force: bool = False
    ) -> Applied:
        """Apply, unless dead by now."""
        if dry_run:
            self._live()
            return await super().apply(resource, manifest, dry_run=True, force=force)
        self._before()
        applied = await super().apply(resource, manifest, force=force)
        self._after()
        return applied

    async def create(self, resource: Resource, manifest: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Create, unless dead by now."""
        if dry_run:
            self._live()
            return await super().create(resource, manifest, dry_run=True)
        self._before()
        made = await super().create(resource, manifest)
        self._after()
        return made

    async def update(self, resource: Resource, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Update, unless dead by now."""
        self._before()
        made = await super().update(resource, manifest)
        self._after()
        return made

    async def manage(self, *args: Any) -> dict[str, Any]:  # noqa: ANN401
        """Write who owns which fields, unless dead by now."""
        self._before()
        answer = await super().manage(*args)
        self._after()
        return answer

    async def unlabel(self, *args: Any, dry_run: bool = False) -> dict[str, Any]:  # noqa: ANN401  (handed on)
        """Die before or after a label is taken off."""
        if dry_run:
            return await super().unlabel(*args, dry_run=True)
        self._before()
        answer = await super().unlabel(*args)
        self._after()
        return answer

    async def delete(self, *args: Any, dry_run: bool = False, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401
        """Delete, unless dead by now."""
        if dry_run:
            self._live()
            return await super().delete(*args, dry_run=True, **kwargs)
        self._before()
        answer = await super().delete(*args, **kwargs)
        self._after()
        return answer

    async def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any]:
        """Read, unless dead by now."""
        self._live()
        return await super().get(resource, namespace, name)

    def _live(self) -> None:
        if self.fate.dead:
            raise Killed

    def _before(self) -> None:
        self._live()
        self.fate.writes += 1
        if self.fate.writes == self.fate.at_write and not self.fate.after:
            self.fate.dead = True
            raise Killed

    def _after(self) -> None:
        if self.fate.writes >= self.fate.at_write > 0 and self.fate.after:
            self.fate.dead = True
        self._live()


OLD = [*application(), config_map("leaving", here="once")]
NEW = [
    *(item for item in application() if item["kind"] not in {"ConfigMap", "Service"}),
    config_map("settings", colour="red"),
    config_map("fresh"),
]
"""Against OLD: one changed, one created, two pruned, the rest unchanged."""


async def state(place: World) -> dict[str, Any]:
    """Return what is in the namespace, without what differs from run to run."""
    kinds = "configmaps,secrets,services,serviceaccounts,deployments"
    found = json.loads(
        await place.kubectl("get", kinds, "-n", place.namespace, "-l", "fairlead.dev/owner", "-o", "json")
    )
    return {
        f"{item['kind']}/{item['metadata']['name']}": (
            item.get("data"),
            item["metadata"]["labels"],
            (item.get("spec") or {}).get("selector"),
        )
        for item in found["items"]
    }


async def live_or_die(place: World, work: DeployWork, story: Story, checkpoint: Checkpoint) -> Outcome | None:
    """Run the engine; None if it was killed."""
    try:
        return (await place.engine().run(work, story.report, checkpoint)).outcome
    except BaseException as error:
        if _is_death(error):
            return None
        raise


def _is_death(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_is_death(inner) for inner in error.exceptions)
    return isinstance(error, (Killed, asyncio.CancelledError))


@pytest.mark.parametrize(
    ("manifests", "actions", "writes"),
    [
        # Two objects, two deletes and three changes of the inventory.
        (NEW, ["changed", "created", "pruned", "pruned", "unchanged", "unchanged", "unchanged"], 7),
        # What a job of kind `destroy` carries out: six deletes and three changes of the inventory.
        ([], ["pruned"] * len(OLD), len(OLD) + 3),
    ],
    ids=["changed", "destroyed"],
)
@pytest.mark.timeout(600)
async def test_killed_at_any_write_it_ends_as_if_undisturbed(
    control_plane: Cluster, tmp_path: Path, manifests: list[dict[str, Any]], actions: list[str], writes: int
) -> None:
    """For each write, killed before and after it: same objects, same actions told, same inventory, nothing twice."""
    async with world(control_plane, tmp_path, client_type=MortalClient) as place:

        async def attempt(fate: Fate) -> tuple[dict[str, Any], dict[str, str], dict[str, str], set[str]]:
            MortalClient.fate = Fate()
            await place.deploy(OLD)
            work, checkpoint, story, retold = place.work(manifests), Checkpoint(), Story(), Story()
            MortalClient.fate = fate
            outcome = await live_or_die(place, work, story, checkpoint)
            assert (outcome is None) == (fate.at_write > 0)
            if outcome is None:
                MortalClient.fate = Fate()
                again = await place.engine().run(work, retold.report, checkpoint)
                assert again.outcome is Outcome.SUCCEEDED, again.cause
                for event in retold.events.values():
                    await story.report(event)
            inventory = await place.owned()
            assert all(owned.uid for owned in inventory.objects)
            assert all(mark.finished for mark in inventory.marks)
            held = inventory.marks[-1].result_of(1)
            assert held is not None
            assert sum(held.counts.values()) == len(story.actions()), "the mark holds what the killed process told"
            told = retold if outcome is None else story
            return await state(place), story.actions(), told.actions(), {str(owned.ref) for owned in inventory.objects}

        undisturbed = Fate()
        expected = await attempt(undisturbed)
        assert sorted(expected[1].values()) == actions
        points = undisturbed.writes
        print(f"{points} writes, {2 * points} fault points")
        assert points == writes
        for number in range(1, points + 1):
            for after in (False, True):
                found = await attempt(Fate(number, after))
                assert found == expected, f"killed {'after' if after else 'before'} write {number} of {points}"


@pytest.mark.timeout(600)
async def test_killed_while_it_creates_it_still_says_created(control_plane: Cluster, tmp_path: Path) -> None:
    """The first deployment, killed at each write: what the dead attempt created is created, not unchanged."""
    async with world(control_plane, tmp_path, client_type=MortalClient) as place:
        for number in range(1, 8):
            MortalClient.fate = Fate()
            await place.deploy([])
            work, checkpoint, retold = place.work(application()), Checkpoint(), Story()
            MortalClient.fate = Fate(number, after=True)
            assert await live_or_die(place, work, Story(), checkpoint) is None
            MortalClient.fate = Fate()
            result = await place.engine().run(work, retold.report, checkpoint)
            assert result.outcome is Outcome.SUCCEEDED, result.cause
            if number < 6:
                assert set(retold.actions().values()) == {"created"}, f"killed after write {number}"


@pytest.mark.timeout(600)
async def test_killed_while_it_makes_again_or_takes_over_it_ends_the_same(
    control_plane: Cluster, tmp_path: Path
) -> None:
    """Between delete and apply, and between the fields' change of hands and the apply, as well."""
    async with world(control_plane, tmp_path, client_type=MortalClient) as place:
        place.policy = Policy.model_validate(
            {"adopt": ["kubectl"], "recreate": [{"group": "apps", "kind": "Deployment"}]}
        )
        place.consents = (Consent.ADOPT, Consent.RECREATE)
        moved = deployment("web")
        moved["spec"]["selector"]["matchLabels"] = moved["spec"]["template"]["metadata"]["labels"] = {"app": "moved"}
        theirs = in_namespace(config_map("settings", colour="blue", size="big"), place.namespace)

        async def attempt(fate: Fate) -> tuple[dict[str, Any], dict[str, str]]:
            MortalClient.fate = Fate()
            await place.deploy([])
            await place.deploy([deployment("web")])
            await place.kubectl("apply", "-f", "-", stdin=json.dumps(theirs))
            work = place.work([moved, config_map("settings", colour="red")])
            checkpoint, story = Checkpoint(), Story()
            MortalClient.fate = fate
            outcome = await live_or_die(place, work, story, checkpoint)
            assert (outcome is None) == (fate.at_write > 0)
            if outcome is None:
                MortalClient.fate, story = Fate(), Story()
                again = await place.engine().run(work, story.report, checkpoint)
                assert again.outcome is Outcome.SUCCEEDED, again.cause
            for owned in (await place.owned()).objects:
                assert owned.uid == (await place.live(owned.ref.kind, owned.ref.name))["metadata"]["uid"]
            return await state(place), story.actions()

        undisturbed = Fate()
        expected = await attempt(undisturbed)
        assert sorted(expected[1].values()) == ["changed", "recreated"]
        # Delete and apply, the change of hands and apply, and two changes of the inventory.
        assert undisturbed.writes == 6
        for number in range(1, undisturbed.writes + 1):
            for after in (False, True):
                found = await attempt(Fate(number, after))
                assert found == expected, f"killed {'after' if after else 'before'} write {number}"
