"""Sending a bundle within the agent's credit, between two real sessions without a network."""

import asyncio
from collections.abc import Iterable, Iterator

import pytest

from fairlead_relay.errors import BlobInvalid, StoreUnavailable
from fairlead_relay.gateway import bundle_sender
from fairlead_relay.gateway.bundle_sender import BundleSender
from fairlead_shared.errors import ErrorCode
from fairlead_shared.frames import Hello, Welcome
from fairlead_shared.session import Session, SessionLimits, Side
from fairlead_shared.transfers import ChunkReceived, TransferCredit, TransferEnded, TransferWanted
from tests.polling import PATIENCE_SECONDS

CONTENT = bytes(range(256)) * 1000
LIMITS = SessionLimits(credit_bytes=70_000)


class Blobs:
    """
    One content, read in pieces.

    Args:
        failures: How often it cannot be read, each time after the first piece.
    """

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures

    def has(self, sha256: str) -> bool:
        """Only that one is there."""
        return sha256 == "a" * 64

    def put(self, sha256: str, content: Iterable[bytes]) -> None:
        """Nothing is stored here."""
        raise AssertionError(sha256, content)

    def read(self, sha256: str, offset: int = 0) -> Iterator[bytes]:
        """Yield pieces of odd sizes."""
        if not self.has(sha256):
            raise BlobInvalid(sha256, "it is not stored")
        for start in range(offset, len(CONTENT), 33_333):
            yield CONTENT[start : start + 33_333]
            if self.failures:
                self.failures -= 1
                raise StoreUnavailable("the bucket does not answer")

    def stored_before(self, at: float) -> Iterator[str]:
        """Nobody collects here."""
        raise AssertionError(at)

    def forget(self, sha256: str, stored_before: float) -> bool:
        """Nobody collects here."""
        raise AssertionError(sha256, stored_before)

    def close(self) -> None:
        """Nothing is open."""


class Pair:
    """Two sessions whose frames go over at once."""

    def __init__(self) -> None:
        self.agent, self.relay = Session(Side.AGENT, 0.0, LIMITS), Session(Side.RELAY, 0.0, LIMITS)
        self.received = bytearray()
        self.ended: TransferEnded | None = None
        self.most_in_flight = 0
        self.senders: dict[int, BundleSender] = {}
        self.wanted: list[TransferWanted] = []
        self.agent.send(Hello(versions=(1, 1), agent_version="0", replica="r", sealing_key="k"))
        self.carry()
        self.relay.send(
            Welcome(
                version=1,
                session_id="s",
                relay_version="0",
                store_epoch="e",
                heartbeat_seconds=10,
                reconnect_window_seconds=1,
            )
        )
        self.carry()

    def carry(self) -> None:
        """Move frames both ways until nothing moves."""
        moved = True
        while moved:
            moved = False
            for source, target in ((self.agent, self.relay), (self.relay, self.agent)):
                for frame in source.data_to_send():
                    target.receive_frame(frame, 0.0)
                    moved = True
            self._look()

    def _look(self) -> None:
        for event in self.relay.events():
            if isinstance(event, TransferWanted):
                self.wanted.append(event)
            elif isinstance(event, TransferCredit):
                self.senders[event.transfer].credit_arrived()
        for event in self.agent.events():
            if isinstance(event, ChunkReceived):
                self.received += event.payload
                self.agent.grant(event.transfer, len(event.payload))
            elif isinstance(event, TransferEnded):
                self.ended = event

    async def run(self, sha256: str, offset: int = 0, failures: int = 0) -> None:
        """Fetch content from start to end."""
        self.agent.fetch(sha256, offset)
        self.carry()
        wanted = self.wanted.pop()
        sender = self.senders[wanted.transfer] = BundleSender(self.relay, self.carry, wanted.transfer)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await sender.send(Blobs(failures), wanted.sha256, wanted.offset)
        self.carry()


async def test_every_byte_arrives_though_the_credit_is_small() -> None:
    """The sender waits for credit again and again, and goes on when it comes."""
    pair = Pair()
    await pair.run("a" * 64)
    assert bytes(pair.received) == CONTENT
    assert pair.ended is not None
    assert (pair.ended.size, pair.ended.code) == (len(CONTENT), None)


async def test_a_transfer_resumes_at_an_offset() -> None:
    """What the agent has on its disk is not sent again."""
    pair = Pair()
    await pair.run("a" * 64, 200_001)
    assert bytes(pair.received) == CONTENT[200_001:]
    assert pair.ended is not None
    assert pair.ended.code is None


async def test_content_that_is_not_there_is_refused() -> None:
    """The agent learns it at once and need not wait."""
    pair = Pair()
    await pair.run("b" * 64)
    assert pair.ended is not None
    assert pair.ended.code is ErrorCode.BUNDLE_UNAVAILABLE


async def test_a_transfer_waits_while_content_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """And goes on where it was; a deployment does not fail because a bucket was away for a minute."""
    monkeypatch.setattr(bundle_sender, "PATIENCE_SECONDS", (0.0,))
    pair = Pair()
    await pair.run("a" * 64, failures=3)
    assert bytes(pair.received) == CONTENT
    assert pair.ended is not None
    assert pair.ended.code is None


async def test_a_transfer_is_refused_once_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deployment then fails and says so, and can be retried."""
    monkeypatch.setattr(bundle_sender, "PATIENCE_SECONDS", ())
    pair = Pair()
    await pair.run("a" * 64, failures=1)
    assert pair.ended is not None
    assert pair.ended.code is ErrorCode.BUNDLE_UNAVAILABLE
