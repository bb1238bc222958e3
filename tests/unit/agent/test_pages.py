"""The pages: what the kubelet and Prometheus ask, and what anybody else gets."""

import asyncio

import pytest

from fairlead_agent.metrics import Metrics
from fairlead_agent.pages import serve_metrics, serve_probes


async def ask(port: int, path: str) -> str:
    """Send one request and return the whole answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer.decode()


async def test_ready_follows_the_link_and_healthy_does_not(unused_tcp_port: int) -> None:
    """A relay that is away makes the agent not ready, with the reason, and never unhealthy."""
    ready = [False]
    async with serve_probes(unused_tcp_port, lambda: (ready[0], "TCP: relay:7444: refused")) as port:
        answer = await ask(port, "/readyz")
        assert answer.startswith("HTTP/1.1 503")
        assert "TCP: relay:7444: refused" in answer
        assert (await ask(port, "/healthz")).startswith("HTTP/1.1 200")
        ready[0] = True
        assert (await ask(port, "/readyz")).startswith("HTTP/1.1 200")
        assert (await ask(port, "/secrets")).startswith("HTTP/1.1 404")


async def test_garbage_is_dropped(unused_tcp_port: int) -> None:
    """What is no request, or too long a one, closes the connection and nothing else."""
    async with serve_probes(unused_tcp_port, lambda: (True, "")) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x" * 20_000)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()
        assert (await ask(port, "/healthz")).startswith("HTTP/1.1 200")


async def test_counts_are_on_a_port_of_their_own(unused_tcp_port: int) -> None:
    """Whoever is let in to read them reads nothing else there."""
    async with serve_metrics(unused_tcp_port, Metrics(connected=lambda: True).render) as port:
        answer = await ask(port, "/metrics?name[]=fairlead_agent_connected")
        assert answer.startswith("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n")
        assert "\nfairlead_agent_connected 1.0\n" in answer
        assert (await ask(port, "/readyz")).startswith("HTTP/1.1 404")


async def test_port_zero_serves_nothing() -> None:
    """Outside Kubernetes nobody probes."""
    async with serve_probes(0, lambda: (True, "")) as port:
        assert port == 0
