"""The Kubernetes client against an API server that is overloaded, restarting, or no longer knows its token."""

import asyncio
import time
from pathlib import Path

import pytest
from aiohttp import web

from fairlead_agent import errors
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.resources import CONFIG_MAPS
from tests.integration.scripted_api_server import ScriptedApiServer, says, scripted_api_server

FOUND = {"kind": "ConfigMap", "metadata": {"name": "a"}}
STATUS = {"kind": "Status", "message": "no", "reason": ""}


def client_of(server: ScriptedApiServer, patience_seconds: float = 5.0) -> KubeClient:
    """Return a client of the scripted server."""
    return KubeClient(server.access, patience_seconds=patience_seconds)


async def test_token_is_read_again_when_it_is_refused(tmp_path: Path) -> None:
    """The kubelet replaced it a moment ago: the second try carries the new one."""
    async with scripted_api_server(tmp_path) as server, client_of(server) as client:
        server.answers = [says(200, FOUND), says(401, STATUS), says(200, FOUND)]
        await client.get(CONFIG_MAPS, "shop", "a")
        (tmp_path / "token").write_text("second")
        await client.get(CONFIG_MAPS, "shop", "a")
        assert [one.headers["Authorization"] for one in server.asked] == [
            "Bearer first",
            "Bearer first",
            "Bearer second",
        ]


async def test_token_that_stays_refused_is_one_clear_error(tmp_path: Path) -> None:
    """Asked twice, not for ever; the token is not in the text."""
    async with scripted_api_server(tmp_path) as server, client_of(server) as client:
        server.answers = [says(401, STATUS)]
        with pytest.raises(errors.Unauthenticated) as caught:
            await client.get(CONFIG_MAPS, "shop", "a")
        assert len(server.asked) == 2
        assert "first" not in str(caught.value)


async def test_overload_is_waited_out_as_long_as_the_server_asks(tmp_path: Path) -> None:
    """Retry-After is honoured before the next try."""
    async with scripted_api_server(tmp_path) as server, client_of(server) as client:
        server.answers = [says(429, STATUS, Retry_After="1"), says(200, FOUND)]
        began = time.monotonic()
        assert await client.get(CONFIG_MAPS, "shop", "a") == FOUND
        assert time.monotonic() - began >= 1.0


async def test_overload_beyond_patience_is_temporary(tmp_path: Path) -> None:
    """The error says how long the server wanted."""
    async with scripted_api_server(tmp_path) as server, client_of(server, 0.5) as client:
        server.answers = [says(429, STATUS, Retry_After="30")]
        with pytest.raises(errors.Throttled) as caught:
            await client.get(CONFIG_MAPS, "shop", "a")
        assert caught.value.temporary
        assert caught.value.retry_after_seconds == 30.0


async def test_restart_of_the_api_server_is_not_noticed(tmp_path: Path) -> None:
    """503 and a cut connection are tried again."""

    async def cut(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async with scripted_api_server(tmp_path) as server, client_of(server) as client:
        server.answers = [says(503, STATUS), cut, says(500, STATUS, Retry_After="0.01"), says(200, FOUND)]
        assert await client.get(CONFIG_MAPS, "shop", "a") == FOUND
        assert len(server.asked) >= 4


async def test_absence_beyond_patience_names_server_and_reason(tmp_path: Path) -> None:
    """Whom, and why."""
    async with scripted_api_server(tmp_path) as server, client_of(server, 0.3) as client:
        server.answers = [says(503, {**STATUS, "message": "etcd is away"})]
        with pytest.raises(errors.Unreachable, match="etcd is away") as caught:
            await client.get(CONFIG_MAPS, "shop", "a")
        assert server.access.server in str(caught.value)


async def test_server_with_a_strangers_certificate_is_not_talked_to(tmp_path: Path) -> None:
    """Only the cluster's CA is trusted."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    async with scripted_api_server(tmp_path / "one") as server, scripted_api_server(tmp_path / "two") as stranger:
        access = type(server.access)(stranger.access.server, server.access.ca_file, server.access.token_file)
        async with KubeClient(access, patience_seconds=0.2) as client:
            with pytest.raises(errors.Unreachable, match="certificate"):
                await client.get(CONFIG_MAPS, "shop", "a")
        assert stranger.asked == []


async def test_answer_that_is_no_json_is_an_error(tmp_path: Path) -> None:
    """A proxy in between must not look like an empty object."""

    async def page(_: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>welcome</html>")

    async with scripted_api_server(tmp_path) as server, client_of(server) as client:
        server.answers = [page]
        with pytest.raises(errors.Unexpected, match="no JSON"):
            await client.get(CONFIG_MAPS, "shop", "a")


async def test_requests_at_once_are_bounded(tmp_path: Path) -> None:
    """However many are asked for, at most sixteen are under way."""
    under_way = most = 0

    async def slow(_: web.Request) -> web.StreamResponse:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        under_way -= 1
        return web.json_response(FOUND)

    async with scripted_api_server(tmp_path) as server, client_of(server) as client:
        server.answers = [slow]
        await asyncio.gather(*(client.get(CONFIG_MAPS, "shop", "a") for _ in range(100)))
        assert len(server.asked) == 100
        assert 1 < most <= 16


async def test_closed_client_says_so(tmp_path: Path) -> None:
    """Not an attribute error."""
    async with scripted_api_server(tmp_path) as server:
        with pytest.raises(errors.Unreachable, match="closed"):
            await client_of(server, 0.1).get(CONFIG_MAPS, "shop", "a")
