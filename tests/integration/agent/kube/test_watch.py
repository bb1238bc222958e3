"""Watches against an API server that ends, breaks, forgets and denies them."""

import asyncio
import json
from collections.abc import Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from fairlead_agent import errors
from fairlead_agent.kube import watch as watch_module
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.condition import until
from fairlead_agent.kube.resources import CONFIG_MAPS
from fairlead_agent.kube.watch import EVERYTHING, Key, Watch
from tests.integration.scripted_api_server import Answer, ScriptedApiServer, says, scripted_api_server
from tests.polling import PATIENCE_SECONDS, eventually


def item(name: str, version: int, **data: str) -> dict[str, Any]:
    """Return a ConfigMap at a version."""
    return {"metadata": {"name": name, "namespace": "shop", "resourceVersion": str(version)}, "data": data}


def listed(version: int, *items: dict[str, Any]) -> Answer:
    """Return a list at a version."""
    return says(200, {"metadata": {"resourceVersion": str(version)}, "items": list(items)})


def streamed(*events: tuple[str, dict[str, Any]], then: str = "end") -> Answer:
    """Return a watch with these events, which then ends, breaks or stays silent."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for kind, found in events:
            await response.write(json.dumps({"type": kind, "object": found}).encode() + b"\n")
        if then == "silence":
            await asyncio.Event().wait()
        if then == "break":
            assert request.transport is not None
            request.transport.abort()
        return response

    return answer


SILENT = streamed(then="silence")


@asynccontextmanager
async def following(server: ScriptedApiServer, *answers: Answer) -> Any:  # noqa: ANN401
    """Follow ConfigMaps through these answers; give the watch and the keys that changed."""
    server.answers = list(answers)
    changes: list[Key] = []

    def project(manifest: Mapping[str, Any]) -> str | None:
        found: str | None = manifest["data"].get("x")
        return found

    async with KubeClient(server.access, patience_seconds=0.2) as client:
        watch = Watch(client, CONFIG_MAPS, "shop", project, changes.append)
        task = asyncio.create_task(watch.run())
        try:
            yield watch, changes, task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def positions(server: ScriptedApiServer) -> list[str]:
    """Return the position each watch began at."""
    return [one.query["resourceVersion"] for one in server.asked if "watch" in one.query]


async def reaches(watch: Watch[str], expected: dict[str, str]) -> None:
    """Wait until the watch holds exactly these."""

    async def holds() -> bool:
        return {name: kept for (_, name), kept in watch.objects.items()} == expected

    await eventually(holds, f"the watch to hold {expected}, it has {watch.objects}")


async def test_list_then_changes_are_kept(tmp_path: Path) -> None:
    """Added, modified, deleted; what the projection leaves out is not kept."""
    async with scripted_api_server(tmp_path) as server:
        events = streamed(
            ("ADDED", item("b", 6, x="2")),
            ("MODIFIED", item("a", 7, x="3")),
            ("ADDED", item("c", 8)),
            ("DELETED", item("b", 9, x="2")),
            then="silence",
        )
        async with following(server, listed(5, item("a", 5, x="1")), events) as (watch, changes, _):
            await reaches(watch, {"a": "3"})
            assert [name for _, name in changes] == ["a", "", "b", "a", "b"]


async def test_open_watches_are_counted(tmp_path: Path) -> None:
    """While one is followed; none is left when it is no longer wanted."""
    async with scripted_api_server(tmp_path) as server, KubeClient(server.access) as client:
        server.answers = [listed(5), SILENT]
        watch = Watch(client, CONFIG_MAPS, "shop", dict, lambda _: None)
        task = asyncio.create_task(watch.run())

        async def open_now() -> bool:
            return client.transport.watches == 1

        await eventually(open_now, "the watch to be open")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert client.transport.watches == 0


async def test_broken_watch_goes_on_where_it_was(tmp_path: Path) -> None:
    """At the last position seen, bookmarks included; nothing is listed again."""
    async with scripted_api_server(tmp_path) as server:
        first = streamed(("ADDED", item("a", 6, x="1")), ("BOOKMARK", item("", 9)), then="break")
        second = streamed(("MODIFIED", item("a", 10, x="2")))
        async with following(server, listed(5), first, second, SILENT) as (watch, _, _task):
            await reaches(watch, {"a": "2"})
            await eventually(lambda: _count(server, 3), "a third watch")
            assert positions(server) == ["5", "9", "10"]


@pytest.mark.parametrize("how", ["event", "status"])
async def test_forgotten_position_means_a_new_list_whose_difference_is_told(tmp_path: Path, how: str) -> None:
    """410 comes as an event or as a status; what changed meanwhile is reported like any change."""
    gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
    expired = streamed(("ERROR", gone)) if how == "event" else says(410, gone)
    async with scripted_api_server(tmp_path) as server:
        before = listed(5, item("a", 1, x="1"), item("b", 2, x="2"), item("c", 3, x="3"))
        after = listed(20, item("a", 1, x="1"), item("b", 9, x="changed"), item("d", 10, x="4"))
        async with following(server, before, expired, after, SILENT) as (watch, changes, _):
            await reaches(watch, {"a": "1", "b": "changed", "d": "4"})
            await eventually(lambda: _count(server, 2), "the watch after the list")
            assert sorted(name for _, name in changes[4:]) == ["b", "c", "d"]
            assert positions(server) == ["5", "20"]


async def test_silent_watch_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that died without a word is found by its silence."""
    monkeypatch.setattr(watch_module, "SILENCE_SECONDS", 0.1)
    async with scripted_api_server(tmp_path) as server:
        again = streamed(("ADDED", item("a", 6, x="1")), then="silence")
        async with following(server, listed(5), SILENT, again) as (watch, _, _task):
            await reaches(watch, {"a": "1"})


async def test_what_was_written_is_awaited_by_its_version(tmp_path: Path) -> None:
    """Not by the object: it may be gone again, and what was there before is not what was written."""
    arrives = asyncio.Event()
    told = streamed(("MODIFIED", item("b", 7)), ("BOOKMARK", item("", 12)), then="silence")

    async def later(request: web.Request) -> web.StreamResponse:
        await arrives.wait()
        return await told(request)

    async with scripted_api_server(tmp_path) as server, following(server, listed(5), later) as (watch, _, _task):
        await watch.reached(["4", "5"])
        waits = asyncio.create_task(watch.reached(["5", "11"]))
        await eventually(lambda: _count(server, 1), "the watch")
        assert not waits.done()
        arrives.set()
        await asyncio.wait_for(waits, PATIENCE_SECONDS)


@pytest.mark.parametrize("version", ["7", "99", "counted-otherwise"])
async def test_what_no_event_shows_is_looked_for_in_a_new_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    """The connection may be dead without a word, or versions be no numbers, or others than those of lists."""
    monkeypatch.setattr(watch_module, "LATE_SECONDS", 0.1)
    async with scripted_api_server(tmp_path) as server:
        answers = [listed(5), SILENT, listed(8, item("a", 7, x="1")), SILENT]
        async with following(server, *answers) as (watch, changes, _):
            await eventually(lambda: _count(server, 1), "the first watch")
            await asyncio.wait_for(watch.reached([version]), PATIENCE_SECONDS)
            assert changes == [EVERYTHING, ("shop", "a"), EVERYTHING]
            await eventually(lambda: _count(server, 2), "the second watch")
            assert positions(server) == ["5", "8"]


async def test_silent_watch_lists_anew_for_whoever_asks_how_things_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it holds may be long past, unless it told of a write since."""
    async with scripted_api_server(tmp_path) as server:
        answers = [listed(5, item("a", 5, x="1")), SILENT, listed(9, item("a", 9, x="2")), SILENT]
        async with following(server, *answers) as (watch, _, _task):
            await eventually(lambda: _count(server, 1), "the first watch")
            await watch.reached(())
            monkeypatch.setattr(watch_module, "FRESH_SECONDS", 0.0)
            await watch.reached(["5"])
            assert watch.objects == {("shop", "a"): "1"}
            await watch.reached(())
            assert watch.objects == {("shop", "a"): "2"}
            await eventually(lambda: _count(server, 2), "the second watch")
            assert positions(server) == ["5", "9"]


async def test_new_list_is_asked_for_by_several_at_once(tmp_path: Path) -> None:
    """Jobs that share a watch, while what it follows is still being given up: one list is for all of them."""
    async with scripted_api_server(tmp_path) as server:
        answers = [listed(5, item("a", 5, x="1")), SILENT, listed(9, item("a", 9, x="2")), SILENT]
        async with following(server, *answers) as (watch, _, _task):
            await eventually(lambda: _count(server, 1), "the first watch")
            watch.renew()
            await asyncio.sleep(0)  # what follows is cut off, and has not ended yet
            watch.renew()
            await asyncio.wait_for(watch.reached(()), PATIENCE_SECONDS)
            assert watch.objects == {("shop", "a"): "2"}
            await eventually(lambda: _count(server, 2), "the second watch")
            assert positions(server) == ["5", "9"]


async def test_new_list_that_fails_is_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server may be away for longer than one request is tried; whoever waits for the list waits no longer."""
    monkeypatch.setattr(watch_module, "LATE_SECONDS", 0.1)
    away = says(503, {"kind": "Status", "message": "starting"})
    async with scripted_api_server(tmp_path) as server:
        is_back = asyncio.Event()

        async def again(request: web.Request) -> web.StreamResponse:
            server.answers.append(again)
            if "watch" in request.query:
                return await SILENT(request)
            return await (listed(8, item("a", 7, x="1")) if is_back.is_set() else away)(request)

        async def has_failed() -> bool:
            return len(server.asked) >= 8

        async with following(server, listed(5), SILENT, again) as (watch, _, _task):
            await eventually(lambda: _count(server, 1), "the first watch")
            waits = asyncio.create_task(watch.reached(["7"]))
            await eventually(has_failed, "a list that fails for longer than it is tried")
            is_back.set()
            await asyncio.wait_for(waits, PATIENCE_SECONDS)
            assert watch.objects == {("shop", "a"): "1"}


@pytest.mark.parametrize("versions", [(), ("counted-otherwise",)])
async def test_nobody_waits_for_a_watch_that_was_denied(tmp_path: Path, versions: tuple[str, ...]) -> None:
    """No new list of it will ever come."""
    denial = says(403, {"kind": "Status", "message": 'User "x" cannot list resource "configmaps"'})
    async with scripted_api_server(tmp_path) as server, following(server, denial) as (watch, _, task):
        await asyncio.wait_for(task, PATIENCE_SECONDS)
        await asyncio.wait_for(watch.reached(versions), PATIENCE_SECONDS)
        assert watch.denied is not None


@pytest.mark.parametrize("versions", [(), ("7",), ("opaque",)])
async def test_nobody_waits_for_a_watch_that_a_defect_ended(tmp_path: Path, versions: tuple[str, ...]) -> None:
    """Neither for its first list, nor for a version, nor whoever asks later: it is raised to all of them."""
    async with scripted_api_server(tmp_path) as server, KubeClient(server.access, patience_seconds=0.2) as client:
        server.answers = [listed(5, item("a", 5)), streamed(("ADDED", item("broken", 6)))]

        def project(manifest: Mapping[str, Any]) -> str:
            if manifest["metadata"]["name"] == "broken":
                raise ArithmeticError
            return "kept"

        watch = Watch(client, CONFIG_MAPS, "shop", project, lambda _: None)
        early = asyncio.create_task(watch.reached(["6"]))
        running = asyncio.create_task(watch.run())
        for waiting in (running, early, watch.reached(versions)):
            with pytest.raises(ArithmeticError):
                await asyncio.wait_for(waiting, PATIENCE_SECONDS)


async def test_denied_watch_says_which_right_is_missing(tmp_path: Path) -> None:
    """It ends; whoever waits for the first list is told, not kept waiting."""
    message = 'User "x" cannot list resource "configmaps" in API group "" in the namespace "shop"'
    denial = says(403, {"kind": "Status", "message": message})
    async with scripted_api_server(tmp_path) as server, following(server, denial) as (watch, changes, task):
        await asyncio.wait_for(watch.synced.wait(), PATIENCE_SECONDS)
        await asyncio.wait_for(task, PATIENCE_SECONDS)
        assert isinstance(watch.denied, errors.MissingRight)
        assert changes == [EVERYTHING]


async def test_watch_that_a_starting_api_server_forbids_is_not_denied(tmp_path: Path) -> None:
    """It lists already and forbids to watch, since it has read only some of its rules."""
    message = 'User "x" cannot watch resource "configmaps" in API group "" in the namespace "shop"'
    denial = says(403, {"kind": "Status", "message": message})
    async with scripted_api_server(tmp_path) as server:
        server.readiness = [500]
        answers = [listed(5, item("a", 5, x="1")), denial, denial, streamed(("MODIFIED", item("a", 6, x="2"))), SILENT]
        async with following(server, *answers) as (watch, _, _task):
            await reaches(watch, {"a": "2"})
            assert watch.denied is None


async def test_absent_server_is_asked_until_it_is_back(tmp_path: Path) -> None:
    """Longer than the patience of one request."""
    away = says(503, {"kind": "Status", "message": "starting"})
    async with scripted_api_server(tmp_path) as server:
        answers = [*([away] * 6), listed(5, item("a", 5, x="1")), SILENT]
        async with following(server, *answers) as (watch, _, _task):
            await reaches(watch, {"a": "1"})


async def test_token_replaced_under_a_watch_does_not_end_it(tmp_path: Path) -> None:
    """A refusal of the token is passed over with the new one; a watch must not be denied for good by it."""
    refused = says(401, {"kind": "Status", "message": "Unauthorized"})
    async with scripted_api_server(tmp_path) as server:
        again = streamed(("ADDED", item("a", 6, x="1")), then="silence")
        async with following(server, listed(5), refused, again) as (watch, _, _task):
            await reaches(watch, {"a": "1"})


async def test_waiting_for_a_condition_ends_when_the_watch_shows_it(tmp_path: Path) -> None:
    """By the event itself, or by the look after a watch that ended."""
    conditions = {"conditions": [{"type": "Established", "status": "True"}]}
    done = {**item("a", 7), "status": conditions}
    async with scripted_api_server(tmp_path) as server, KubeClient(server.access, patience_seconds=0.2) as client:
        server.answers = [streamed(("MODIFIED", item("a", 6)), ("MODIFIED", done), then="silence")]
        await until(client, CONFIG_MAPS, item("a", 5), "Established", seconds=5.0)
        server.answers = [streamed(), says(200, done)]
        await until(client, CONFIG_MAPS, item("a", 5), "Established", seconds=5.0)
        assert server.asked[0].query["fieldSelector"] == "metadata.name=a"


async def test_waiting_for_a_condition_ends_at_its_time(tmp_path: Path) -> None:
    """No state without a deadline."""
    async with scripted_api_server(tmp_path) as server, KubeClient(server.access, patience_seconds=0.2) as client:
        server.answers = [SILENT]
        with pytest.raises(TimeoutError):
            await until(client, CONFIG_MAPS, item("a", 5), "Established", seconds=0.2)


async def _count(server: ScriptedApiServer, watches: int) -> bool:
    return len(positions(server)) >= watches
