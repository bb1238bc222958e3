"""The long-poll channel: batches repeated without loss or doubling, and what waits for what."""

import asyncio
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from fairlead_relay.errors import ChannelClosed, RequestInvalid
from fairlead_relay.gateway import poll_channel
from fairlead_relay.gateway.poll_channel import OUTBOX_BYTES, PollChannel
from fairlead_shared.frames import MAX_FRAME_BYTES
from fairlead_shared.poll_batches import MAX_BATCH_BYTES, split_frames


@pytest.fixture(autouse=True)
def short_holds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let nothing be held for long."""
    monkeypatch.setattr(poll_channel, "HOLD_SECONDS", 0.05)
    monkeypatch.setattr(poll_channel, "CLOSE_SECONDS", 0.05)
    return iter([None])


@pytest.fixture
def channel() -> PollChannel:
    """Make a channel."""
    return PollChannel(None)


async def test_a_batch_sent_again_is_taken_once(channel: PollChannel) -> None:
    """Its answer was lost on the way."""
    await channel.take(1, [b"a", b"b"])
    await channel.take(1, [b"a", b"b"])
    await channel.take(2, [b"c"])
    assert [await channel.receive() for _ in range(3)] == [b"a", b"b", b"c"]
    with pytest.raises(RequestInvalid) as gap:
        await channel.take(4, [b"d"])
    assert gap.value.status is HTTPStatus.CONFLICT


async def test_a_batch_is_given_again_until_the_next_is_asked_for(channel: PollChannel) -> None:
    """The agent lost the answer and asks with the same number."""
    await channel.send(b"a")
    first = await channel.give(1)
    await channel.send(b"b")
    assert await channel.give(1) == first
    assert split_frames(first) == [b"a"]
    assert split_frames(await channel.give(2)) == [b"b"]
    for number in (1, 4):
        with pytest.raises(RequestInvalid):
            await channel.give(number)


async def test_nothing_to_send_is_an_empty_batch_that_does_not_count(channel: PollChannel) -> None:
    """The next request has the same number."""
    assert await channel.give(1) == b""
    await channel.send(b"a")
    assert split_frames(await channel.give(1)) == [b"a"]


async def test_a_newer_request_releases_the_older_one(channel: PollChannel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The older one's connection may be long dead; the frames go to the newer."""
    monkeypatch.setattr(poll_channel, "HOLD_SECONDS", 30)
    older = asyncio.create_task(channel.give(1))
    await asyncio.sleep(0)
    newer = asyncio.create_task(channel.give(1))
    assert await older == b""
    await channel.send(b"a")
    assert split_frames(await newer) == [b"a"]


async def test_the_last_frames_can_be_fetched_from_a_closed_channel(channel: PollChannel) -> None:
    """They say why it was closed; after them, the session is gone."""
    await channel.send(b"why")
    await channel.close()
    assert split_frames(await channel.give(1)) == [b"why"]
    with pytest.raises(RequestInvalid) as over:
        await channel.give(2)
    assert over.value.status is HTTPStatus.GONE
    with pytest.raises(RequestInvalid):
        await channel.take(1, [b"late"])
    with pytest.raises(ChannelClosed):
        await channel.send(b"late")
    with pytest.raises(ChannelClosed):
        await channel.receive()


async def test_an_agent_that_leaves_ends_the_session(channel: PollChannel) -> None:
    """What it sent before is still read."""
    await channel.take(1, [b"last"])
    await channel.leave()
    assert await channel.receive() == b"last"
    with pytest.raises(ChannelClosed):
        await channel.receive()


async def test_writing_waits_while_nobody_fetches(channel: PollChannel) -> None:
    """Memory per agent is bounded; a frame of the largest size passes all the same."""
    frame = b"x" * (OUTBOX_BYTES // 2)
    await channel.send(frame)
    held = asyncio.create_task(channel.send(frame))
    await asyncio.wait([held], timeout=0.05)
    assert not held.done()
    assert len(await channel.give(1)) <= MAX_BATCH_BYTES
    await held
    large = asyncio.create_task(channel.send(b"y" * MAX_FRAME_BYTES))
    await asyncio.sleep(0)
    number, fetched = 2, b""
    while b"y" not in fetched:
        fetched = await channel.give(number)
        number += 1
    await large
