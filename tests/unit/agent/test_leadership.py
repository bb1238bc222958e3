"""Leadership in virtual time, against Leases that keep versions as the API server does."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead_agent.errors import (
    AlreadyExists,
    Conflict,
    LeadershipLost,
    MissingRight,
    NotFound,
    SettingsInvalid,
    Unreachable,
)
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.resources import Resource
from fairlead_agent.leadership import (
    FOLLOW_SECONDS,
    GATE_SECONDS,
    LEASE_NAME,
    LEASE_SECONDS,
    SAFETY_SECONDS,
    TRANSIT_SECONDS,
    Leadership,
    ReplicaName,
    Term,
)
from tests.polling import PATIENCE_SECONDS
from tests.virtual_time import pass_time, run_in_virtual_time


@dataclass
class Leases:
    """The API server's one Lease."""

    live: dict[str, Any] | None = None
    version: int = 0

    def write(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        self.version += 1
        stored = copy.deepcopy(dict(manifest))
        stored["metadata"]["resourceVersion"] = str(self.version)
        self.live = stored
        return copy.deepcopy(stored)


@dataclass
class Line:
    """One replica's way to it: broken when the test says so."""

    leases: Leases
    is_broken: Callable[[float], bool] = lambda _: False
    answer_is_lost: Callable[[float], bool] = lambda _: False
    writes: list[float] = field(default_factory=list)

    async def find(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        await self._send()
        return copy.deepcopy(self.leases.live)

    async def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any]:
        found = await self.find(resource, namespace, name)
        if found is None:
            raise NotFound(name)
        return found

    async def create(self, resource: Resource, manifest: Mapping[str, Any]) -> dict[str, Any]:
        await self._send()
        if self.leases.live is not None:
            raise AlreadyExists(LEASE_NAME)
        return await self._answer(self.leases.write(manifest))

    async def update(self, resource: Resource, manifest: Mapping[str, Any]) -> dict[str, Any]:
        await self._send()
        live = self.leases.live
        if live is None:
            raise NotFound(LEASE_NAME)
        if live["metadata"]["resourceVersion"] != manifest["metadata"]["resourceVersion"]:
            raise Conflict(LEASE_NAME)
        return await self._answer(self.leases.write(manifest))

    async def _send(self) -> None:
        await pass_time(0.01)
        if self.is_broken(now()):
            raise Unreachable("https://api", "broken")

    async def _answer(self, stored: dict[str, Any]) -> dict[str, Any]:
        self.writes.append(now())
        await pass_time(0.01)
        if self.answer_is_lost(now()):
            await pass_time(3600)
        return stored


def now() -> float:
    return asyncio.get_running_loop().time()


def leadership(line: Line, replica: str) -> Leadership:
    silent = structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    return Leadership(cast("KubeClient", line), "fairlead", replica, silent, now)


@dataclass
class Replica:
    """A replica that leads when it can, and says when its gate is open."""

    line: Line
    name: str
    term: Term | None = None
    terms: int = 0
    led_at: list[float] = field(default_factory=list)

    async def run(self) -> None:
        asked = leadership(self.line, self.name)
        while True:
            self.term = await asked.acquire()
            self.led_at.append(now())
            await self.term.hold()

    @property
    def may_write(self) -> bool:
        return self.term is not None and self.term.seconds_left() > 0


def test_released_lease_is_taken_at_once() -> None:
    """A planned hand-over takes no longer than the next look."""

    async def main() -> None:
        leases = Leases()
        first = await leadership(Line(leases), "a").acquire()
        renewing = asyncio.create_task(first.hold())
        following = asyncio.create_task(leadership(Line(leases), "b").acquire())
        await pass_time(60.005)  # a renewal is under way
        renewing.cancel()
        await asyncio.sleep(0)
        asked = now()
        await first.release()
        second = await following
        assert now() - asked <= FOLLOW_SECONDS + 0.1
        assert not second.continues
        assert first.seconds_left() == 0

    run_in_virtual_time(main())


def test_crashed_leader_is_followed_after_one_lease() -> None:
    """Not before its lease is over, and well within 15 s."""

    async def main() -> None:
        leases = Leases()
        first = await leadership(Line(leases), "a").acquire()
        renewing = asyncio.create_task(first.hold())
        following = asyncio.create_task(leadership(Line(leases), "b").acquire())
        await pass_time(60)
        renewing.cancel()
        crashed = now()
        await following
        assert LEASE_SECONDS - 2.1 <= now() - crashed <= LEASE_SECONDS + FOLLOW_SECONDS + 0.2

    run_in_virtual_time(main())


def test_gate_shuts_before_the_lease_ends_and_bounds_what_passes() -> None:
    """A write that begins at the last moment is over, and has arrived, before anybody else leads."""

    async def main() -> None:
        began = now()
        term = await leadership(Line(Leases()), "a").acquire()
        while term.seconds_left() > 0:
            ends = now() + term.seconds_left() + TRANSIT_SECONDS + SAFETY_SECONDS
            assert ends <= began + LEASE_SECONDS + 0.1
            await pass_time(0.05)
        assert now() - began <= GATE_SECONDS + 0.1

    run_in_virtual_time(main())


def test_leader_goes_on_when_the_api_server_comes_back_and_nobody_led() -> None:
    """A lone agent survives a restart of the API server without dropping its work; its writes wait."""

    async def main() -> None:
        line = Line(Leases(), is_broken=lambda at: 10 < at < 40)
        term = await leadership(line, "a").acquire()
        holding = asyncio.create_task(term.hold())
        await pass_time(20)
        assert term.seconds_left() == 0
        assert not term.is_over
        await asyncio.wait_for(term.opened(), PATIENCE_SECONDS)
        assert 40 <= now() <= 41
        assert not holding.done()
        holding.cancel()

    run_in_virtual_time(main())


def test_answer_that_is_lost_costs_no_leadership() -> None:
    """The renewal arrived, only its answer did not: the Lease says whose it is."""

    async def main() -> None:
        line = Line(Leases(), answer_is_lost=lambda at: 10 < at < 13)
        term = await leadership(line, "a").acquire()
        holding = asyncio.create_task(term.hold())
        await pass_time(30)
        assert not holding.done()
        assert term.seconds_left() > 0
        holding.cancel()

    run_in_virtual_time(main())


def test_cut_off_leader_never_writes_again_in_its_term() -> None:
    """Another replica led meanwhile: what waits at the gate is told so."""

    async def main() -> None:
        leases = Leases()
        first = await leadership(Line(leases, is_broken=lambda at: 10 < at < 40), "a").acquire()
        holding = asyncio.create_task(first.hold())
        waiting = asyncio.create_task(leadership(Line(leases), "b").acquire())
        second = await waiting
        keeping = asyncio.create_task(second.hold())
        writing = asyncio.create_task(first.opened())
        await holding
        with pytest.raises(LeadershipLost):
            await writing
        assert first.is_over
        assert second.seconds_left() > 0
        keeping.cancel()

    run_in_virtual_time(main())


def test_restarted_replica_holds_its_lease_still() -> None:
    """The same spool is the same replica: nobody else can have led, so it need not wait and keeps its journals."""

    async def main() -> None:
        leases = Leases()
        await leadership(Line(leases), "a").acquire()
        again = now()
        term = await leadership(Line(leases), "a").acquire()
        assert term.continues
        assert now() - again < 0.1

    run_in_virtual_time(main())


def test_missing_right_ends_the_wait_for_the_lease() -> None:
    """A chart of an older version: asking for ever would hide it."""

    class Refusing(Line):
        async def find(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
            raise MissingRight("get", "coordination.k8s.io", "leases", namespace)

    with pytest.raises(MissingRight):
        run_in_virtual_time(leadership(Refusing(Leases()), "a").acquire())


outages = st.lists(st.tuples(st.floats(0, 50), st.floats(0.1, 30)), max_size=4)


@settings(max_examples=20)
@given(broken=st.tuples(outages, outages, outages), lost=st.tuples(outages, outages, outages))
def test_never_two_gates_are_open(broken: tuple[Any, ...], lost: tuple[Any, ...]) -> None:
    """Whatever breaks for whom and when, and once all is well again somebody leads."""

    def during(times: list[tuple[float, float]]) -> Callable[[float], bool]:
        return lambda at: any(begin <= at < begin + length for begin, length in times)

    async def main() -> None:
        leases = Leases()
        replicas = [
            Replica(Line(leases, during(cut), during(deaf)), name)
            for name, cut, deaf in zip("abc", broken, lost, strict=True)
        ]
        running = [asyncio.create_task(one.run()) for one in replicas]
        while now() < 110:
            await pass_time(0.25)
            assert sum(one.may_write for one in replicas) <= 1
        assert sum(one.may_write for one in replicas) == 1
        for task in running:
            task.cancel()
        await asyncio.wait(running)

    run_in_virtual_time(main())


def test_replica_name_lives_as_long_as_its_spool(tmp_path: Path) -> None:
    """A container that starts again has its name; a new pod has another."""
    first = ReplicaName(tmp_path / "one", "pod")
    name = str(first)
    first.close()
    second = ReplicaName(tmp_path / "one", "pod")
    other = ReplicaName(tmp_path / "two", "pod")
    assert str(second) == name
    assert str(other) != name
    second.close()
    other.close()


def test_two_processes_cannot_have_one_name(tmp_path: Path) -> None:
    """Both would believe to hold the lease."""
    first = ReplicaName(tmp_path, "pod")
    with pytest.raises(SettingsInvalid, match="in use by another agent process"):
        ReplicaName(tmp_path, "pod")
    first.close()


def test_damaged_name_is_made_again(tmp_path: Path) -> None:
    """A full disk may have left half of it."""
    (tmp_path / "replica").write_text("abc\n")
    name = ReplicaName(tmp_path, "pod")
    assert len(str(name)) == len("pod_") + 12
    name.close()
