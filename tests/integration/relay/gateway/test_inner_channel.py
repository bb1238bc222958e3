"""The relay's end of inner TLS over a channel: who gets in, who does not, and how it ends."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from fairlead_relay.errors import ChannelClosed
from fairlead_relay.gateway.inner_channel import InnerChannel
from fairlead_shared.inner_tls import InnerTls
from tests.unit.shared.test_inner_tls import SERVER, client


class Outer:
    """A channel to an agent in this test."""

    transport = "websocket"

    def __init__(self) -> None:
        self.arriving: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.sent: list[bytes] = []
        self.answered = asyncio.Event()
        self.is_closed = False
        self.is_aborted = False

    async def send(self, frame: bytes) -> None:
        """Keep it."""
        if self.is_closed:
            raise ChannelClosed("closed")
        self.sent.append(frame)
        self.answered.set()

    async def receive(self) -> bytes | None:
        """Return what the agent said."""
        return await self.arriving.get()

    async def close(self) -> None:
        """Close it."""
        self.is_closed = True

    def abort(self) -> None:
        """Close it at once."""
        self.is_aborted = True


class Agent:
    """The other end, by hand."""

    def __init__(self, outer: Outer, context: ssl.SSLContext) -> None:
        self.tls = InnerTls(context, "localhost")
        self._outer = outer
        self.tls.start()
        self.flush()

    def flush(self) -> None:
        """Send what there is to send."""
        for message in self.tls.data_to_send():
            self._outer.arriving.put_nowait(message)

    def take(self) -> list[bytes]:
        """Take everything that the relay sent; returns frames."""
        sent, self._outer.sent = self._outer.sent, []
        frames = [frame for message in sent for frame in self.tls.receive(message)]
        self.flush()
        return frames


@asynccontextmanager
async def met(context: ssl.SSLContext) -> AsyncIterator[tuple[Outer, InnerChannel, Agent, asyncio.Task[None]]]:
    """Begin a handshake, up to the agent's last part of it."""
    outer = Outer()
    channel, agent = InnerChannel(outer, SERVER), Agent(outer, context)
    handshake = asyncio.create_task(channel.handshake(5))
    await outer.answered.wait()
    agent.take()
    yield outer, channel, agent, handshake
    handshake.cancel()


async def test_an_agent_is_greeted_and_frames_pass_both_ways() -> None:
    """The empty frame comes first; goodbye ends both ends in due form."""
    async with met(client()) as (outer, channel, agent, handshake):
        await handshake
        assert agent.take() == [b""]
        assert channel.peer_certificate() is not None
        await channel.send(b"down")
        assert agent.take() == [b"down"]
        agent.tls.send(b"up")
        agent.flush()
        assert await channel.receive() == b"up"
        agent.tls.close()
        agent.flush()
        with pytest.raises(ChannelClosed, match="by the peer"):
            await channel.receive()
        await channel.close()
        assert outer.is_closed


async def test_a_refused_agent_is_told_why() -> None:
    """By the alert of the handshake, and never greeted."""
    async with met(client(life_seconds=-1)) as (_, _channel, agent, handshake):
        with pytest.raises(ChannelClosed, match="expired"):
            await handshake
        with pytest.raises(ssl.SSLError, match=r"(?i)expired"):
            agent.take()


async def test_garbage_and_silence_end_the_handshake() -> None:
    """Within its time; text messages count as garbage."""
    for said in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x01\x00"):
        outer = Outer()
        outer.arriving.put_nowait(said)
        with pytest.raises(ChannelClosed, match="inner TLS"):
            await InnerChannel(outer, SERVER).handshake(5)
    outer = Outer()
    outer.arriving.put_nowait(None)
    channel = InnerChannel(outer, SERVER)
    with pytest.raises(ChannelClosed, match="no inner TLS handshake"):
        await channel.handshake(0.05)
    channel.abort()
    assert outer.is_aborted


async def test_what_was_altered_ends_the_connection() -> None:
    """Nothing is taken from it, and the rest is not sent either."""
    async with met(client()) as (outer, channel, agent, handshake):
        await handshake
        agent.tls.send(b"up")
        (message,) = agent.tls.data_to_send()
        outer.arriving.put_nowait(message[:-1] + bytes([message[-1] ^ 1]))
        with pytest.raises(ChannelClosed, match="inner TLS"):
            await channel.receive()
        with pytest.raises(ChannelClosed):
            await channel.receive()
