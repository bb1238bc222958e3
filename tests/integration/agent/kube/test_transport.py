"""The Kubernetes client against an API server that is overloaded, restarting, or no longer knows its token."""

import asyncio
import ctypes
import gc
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from fairlead_agent import errors
from fairlead_agent.kube.access import ClusterAccess
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.resources import CONFIG_MAPS
from tests.integration.scripted_api_server import ScriptedApiServer, says, scripted_api_server
from tests.polling import PATIENCE_SECONDS

FOUND = {"kind": "ConfigMap", "metadata": {"name": "a"}}
STATUS = {"kind": "Status", "message": "no", "reason": ""}


def client_of(server: ScriptedApiServer, patience_seconds: float = 5.0) -> KubeClient:
    """Return a client of the scripted server."""
    return KubeClient(server.access, patience_seconds=patience_seconds)


async def cut(request: web.Request) -> web.StreamResponse:
    """Break the connection instead of an answer."""
    assert request.transport is not None
    request.transport.close()
    return web.Response()


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


async def test_every_try_is_counted_with_its_status(tmp_path: Path) -> None:
    """What was tried again counts each time; a cut connection counts as status 0."""
    tries: list[tuple[str, int]] = []

    def observe(method: str, status: int, _seconds: float) -> None:
        tries.append((method, status))

    async with (
        scripted_api_server(tmp_path) as server,
        KubeClient(server.access, patience_seconds=5, observe=observe) as client,
    ):
        # aiohttp itself tries once more after the first cut.
        server.answers = [cut, cut, says(503, STATUS), says(200, FOUND)]
        await client.get(CONFIG_MAPS, "shop", "a")
    assert tries == [("GET", 0), ("GET", 503), ("GET", 200)]


async def test_fewer_requests_are_under_way_after_an_overload(tmp_path: Path) -> None:
    """Half as many as the API server refused; nothing is lost."""
    together, most = 0, 0
    refused = 16

    async def crowded(_: web.Request) -> web.StreamResponse:
        nonlocal together, most, refused
        together += 1
        is_refused = refused > 0
        refused -= 1
        try:
            if not is_refused:
                most = max(most, together)
            for _round in range(100):  # rounds of the loop, in which others may come
                await asyncio.sleep(0)
        finally:
            together -= 1
        return web.json_response(STATUS if is_refused else FOUND, status=429 if is_refused else 200)

    async with scripted_api_server(tmp_path) as server, client_of(server, 20) as client:
        server.answers = [crowded]
        found = await asyncio.gather(*(client.get(CONFIG_MAPS, "shop", "a") for _ in range(32)))
    assert found == [FOUND] * 32
    assert 1 <= most <= 10


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
    async with scripted_api_server(tmp_path) as server, client_of(server) as client:
        server.answers = [says(503, STATUS), cut, says(500, STATUS, Retry_After="0.01"), says(200, FOUND)]
        assert await client.get(CONFIG_MAPS, "shop", "a") == FOUND
        assert len(server.asked) >= 4


FORBIDDEN = {
    "kind": "Status",
    "message": 'configmaps "a" is forbidden: User "x" cannot get resource "configmaps" in API group "" in the namespace'
    ' "shop"',
    "reason": "Forbidden",
}


@pytest.mark.parametrize("not_ready", [403, 500, 503])
async def test_what_a_starting_api_server_forbids_is_asked_again(tmp_path: Path, not_ready: int) -> None:
    """Until it has read its rules it forbids everything, the question whether it is ready included."""
    async with scripted_api_server(tmp_path) as server, client_of(server, 20.0) as client:
        server.answers = [says(403, FORBIDDEN), says(403, FORBIDDEN), says(403, FORBIDDEN), says(200, FOUND)]
        server.readiness = [not_ready]
        await client.get(CONFIG_MAPS, "shop", "a")
        assert len(server.asked) == 4


async def test_what_a_ready_api_server_forbids_is_forbidden(tmp_path: Path) -> None:
    """Asked twice, since it may have become ready in between, and without a pause."""
    async with scripted_api_server(tmp_path) as server, client_of(server) as client:
        server.answers = [says(403, FORBIDDEN)]
        with pytest.raises(errors.MissingRight):
            await client.get(CONFIG_MAPS, "shop", "a")
        assert (len(server.asked), server.asked_readiness) == (2, 1)


@pytest.mark.parametrize(("status", "patience"), [(403, "UNASKABLE_SECONDS"), (500, "UNREADY_SECONDS")])
async def test_where_readiness_is_never_told_a_refusal_is_believed_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, patience: str
) -> None:
    """A hardened cluster may not tell, another never is ready; the second refusal is believed at once."""
    monkeypatch.setattr(f"fairlead_agent.kube.readiness.{patience}", 0.6)
    async with scripted_api_server(tmp_path) as server, client_of(server, 20.0) as client:
        server.answers, server.readiness = [says(403, FORBIDDEN)], [status]
        with pytest.raises(errors.MissingRight):
            await client.get(CONFIG_MAPS, "shop", "a")
        asked = len(server.asked)
        with pytest.raises(errors.MissingRight):
            await client.get(CONFIG_MAPS, "shop", "a")
        assert len(server.asked) - asked == 2


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


async def test_intermediate_ca_is_trusted_without_its_root(tmp_path: Path) -> None:
    """As kubectl does with what a cluster's CA file has, and nobody but that CA."""
    async with scripted_api_server(tmp_path) as server:
        server.renew_certificate_by_intermediate()
        server.answers = [says(200, FOUND)]
        async with KubeClient(server.access, patience_seconds=20.0) as client:
            await client.get(CONFIG_MAPS, "shop", "a")


async def test_ca_of_the_cluster_is_changed_under_the_client(tmp_path: Path) -> None:
    """Both are trusted for a while, as documented, or the new one appears in the file only when it is needed."""
    async with scripted_api_server(tmp_path) as server:
        trusted = tmp_path / "ca.crt"
        trusted.write_bytes(server.access.ca_file.read_bytes())
        access = ClusterAccess(server.access.server, trusted, server.access.token_file)
        async with KubeClient(access, patience_seconds=20.0) as client:
            server.answers = [says(200, FOUND), cut, says(200, FOUND)]
            await client.get(CONFIG_MAPS, "shop", "a")
            server.renew_certificate()
            trusted.write_bytes(server.access.ca_file.read_bytes())
            await client.get(CONFIG_MAPS, "shop", "a")
    assert len(server.asked) == 3


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


@dataclass
class Gate:
    """A gate as the test sets it."""

    left: float = 3.0
    is_lost: bool = False
    asked: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)
    shuts_after: int = 1_000_000
    """Looks at `seconds_left` that find it open."""

    def seconds_left(self) -> float:
        self.asked += 1
        return self.left if self.asked <= self.shuts_after else 0.0

    async def opened(self) -> None:
        if self.is_lost:
            raise errors.LeadershipLost
        if self.left <= 0 or self.asked >= self.shuts_after:
            await self.news.wait()


async def test_write_is_bounded_by_what_the_gate_leaves(tmp_path: Path) -> None:
    """By the API server too, which goes on when this process is frozen; reads and dry-runs are not."""
    async with (
        scripted_api_server(tmp_path) as server,
        KubeClient(server.access, gate=Gate(left=2.5)) as client,
    ):
        server.answers = [says(200, FOUND)]
        await client.apply(CONFIG_MAPS, {"metadata": {"name": "a", "namespace": "shop"}})
        await client.delete(CONFIG_MAPS, "shop", "a", uid="1")
        await client.apply(CONFIG_MAPS, {"metadata": {"name": "a", "namespace": "shop"}}, dry_run=True)
        await client.get(CONFIG_MAPS, "shop", "a")
        assert [one.query.get("timeout") for one in server.asked] == ["2500ms", "2500ms", None, None]


async def test_write_hangs_up_when_its_time_is_over(tmp_path: Path) -> None:
    """Nothing this process began may be under way when another leads."""

    async def never(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    async with (
        scripted_api_server(tmp_path) as server,
        KubeClient(server.access, patience_seconds=0, gate=Gate(left=0.3)) as client,
    ):
        server.answers = [never]
        async with asyncio.timeout(PATIENCE_SECONDS):
            with pytest.raises(errors.Unreachable):
                await client.create(CONFIG_MAPS, {"metadata": {"name": "a", "namespace": "shop"}})


async def test_write_waits_at_a_shut_gate_and_is_not_begun(tmp_path: Path) -> None:
    """Reads pass meanwhile."""
    gate = Gate(left=0)
    async with scripted_api_server(tmp_path) as server, KubeClient(server.access, gate=gate) as client:
        server.answers = [says(200, FOUND)]
        writing = asyncio.create_task(client.update(CONFIG_MAPS, {"metadata": {"name": "a", "namespace": "shop"}}))
        await client.get(CONFIG_MAPS, "shop", "a")
        assert [one.method for one in server.asked] == ["GET"]
        gate.left = 3.0
        gate.news.set()
        await writing
        assert [one.method for one in server.asked] == ["GET", "PUT"]


async def test_gate_that_shuts_while_a_connection_is_made_stops_the_write(tmp_path: Path) -> None:
    """The last look is right before the body leaves: the API server sees no request."""
    gate = Gate(shuts_after=1)
    async with (
        scripted_api_server(tmp_path) as server,
        KubeClient(server.access, patience_seconds=0.5, gate=gate) as client,
    ):
        server.answers = [says(200, FOUND)]
        with pytest.raises(errors.Unreachable, match="Lease could not be renewed"):
            await client.update(CONFIG_MAPS, {"metadata": {"name": "a", "namespace": "shop"}})
        assert gate.asked == 2
        assert server.asked == []


async def test_lost_leadership_ends_a_write_at_once(tmp_path: Path) -> None:
    """No patience: the work goes on elsewhere."""
    async with (
        scripted_api_server(tmp_path) as server,
        KubeClient(server.access, gate=Gate(is_lost=True)) as client,
    ):
        server.answers = [says(200, FOUND)]
        with pytest.raises(errors.LeadershipLost):
            await client.delete(CONFIG_MAPS, "shop", "a")
        assert server.asked == []


async def test_warnings_are_read_with_their_quotes(tmp_path: Path) -> None:
    """Several in one header or in several, with escaped quotes; what has another form is none."""
    header = '299 - "first, \\"quoted\\"", 299 - "second", 110 - "stale"'
    async with scripted_api_server(tmp_path) as server, client_of(server) as client:
        server.answers = [says(200, FOUND, Warning=header)]
        applied = await client.apply(CONFIG_MAPS, {"metadata": {"name": "a", "namespace": "shop"}}, dry_run=True)
        assert applied.warnings == ('first, "quoted"', "second")


async def test_connection_that_a_large_body_went_through_is_not_kept(tmp_path: Path) -> None:
    """Its TLS has a buffer of that size from then on."""
    async with scripted_api_server(tmp_path) as server, client_of(server) as client:
        server.answers = [says(200, FOUND)]
        for size in (10, 200_000, 10):
            manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "x" * size}}
            await client.apply(CONFIG_MAPS, {**manifest, "metadata": {"name": "a", "namespace": "shop"}})
        assert [one.headers.get("Connection") for one in server.asked] == [None, "close", None]


async def test_open_watch_keeps_no_buffer_to_write_with(tmp_path: Path) -> None:
    """A session ticket has OpenSSL take one of 17 KiB until the next write, and a watch makes none."""
    is_over = asyncio.Event()

    async def follow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"type":"BOOKMARK"}\n')
        await is_over.wait()
        return response

    others = _tls_connections()
    async with scripted_api_server(tmp_path) as server, client_of(server) as client:
        server.answers = [follow]
        watch = client.watch(CONFIG_MAPS, "shop", resource_version="1", server_seconds=60, silence_seconds=60)
        async with watch as events:
            await anext(events)
            connections = [one for one in _tls_connections() if one not in others and not one.server_side]
            before = _allocated_bytes()
            for one in connections:
                one.write(b"")  # has a buffer given back, if there is one
            assert connections
            assert before - _allocated_bytes() < 8 * 1024
        is_over.set()


def _tls_connections() -> list[ssl.SSLObject]:
    # By their type itself: `isinstance` asks a proxy, which may be one of something that is gone.
    return [one for one in gc.get_objects() if type(one) is ssl.SSLObject]


class _MallocInfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in [
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        ]
    ]


def _allocated_bytes() -> int:
    """Return what glibc has given out. Source: https://man7.org/linux/man-pages/man3/mallinfo.3.html."""
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = _MallocInfo
    return int(mallinfo().uordblks)
