"""Whatever is done to the messages of inner TLS, a side takes what the other sent, in order, or nothing."""

from __future__ import annotations

import contextlib
import itertools
import ssl

from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead_shared.errors import FrameInvalid
from fairlead_shared.inner_tls import InnerTls
from fairlead_shared.session import Side
from tests.unit.shared.test_inner_tls import SERVER, client

CONTEXT = client()
FRAMES = st.lists(st.binary(max_size=300), max_size=6)


def connected() -> tuple[InnerTls, InnerTls]:
    """Return both sides after the handshake."""
    agent, relay = InnerTls(CONTEXT, "localhost"), InnerTls(SERVER, None)
    agent.start()
    while up := agent.data_to_send():
        for message in up:
            relay.receive(message)
        for message in relay.data_to_send():
            agent.receive(message)
    return agent, relay


def received(side: InnerTls, messages: list[bytes]) -> list[bytes]:
    """Return the frames that a side takes from messages, until it refuses one."""
    frames: list[bytes] = []
    with contextlib.suppress(ssl.SSLError, FrameInvalid):
        for message in messages:
            frames += side.receive(message)
    return frames


@settings(max_examples=40, deadline=None)
@given(
    frames=FRAMES, cuts=st.lists(st.integers(0, 4000), max_size=12), sender_is=st.sampled_from([Side.AGENT, Side.RELAY])
)
def test_frames_arrive_once_and_in_order_however_they_are_cut(
    frames: list[bytes], cuts: list[int], sender_is: Side
) -> None:
    """A channel may join messages or split them."""
    agent, relay = connected()
    sender, receiver = (agent, relay) if sender_is is Side.AGENT else (relay, agent)
    for frame in frames:
        sender.send(frame)
    stream = b"".join(sender.data_to_send())
    ends = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    assert received(receiver, [stream[a:b] for a, b in itertools.pairwise(ends)]) == frames


@settings(max_examples=80, deadline=None)
@given(
    frames=FRAMES.filter(bool),
    deed=st.sampled_from(["flip", "drop", "double", "swap", "invent"]),
    at=st.floats(0, 0.999),
    bit=st.integers(0, 7),
    invented=st.binary(min_size=1, max_size=64),
)
def test_nothing_is_taken_that_was_not_sent(
    frames: list[bytes], deed: str, at: float, bit: int, invented: bytes
) -> None:
    """Altered, left out, repeated, out of order or made up: a side takes a true beginning of what was said."""
    agent, relay = connected()
    messages = []
    for frame in frames:
        agent.send(frame)
        messages += agent.data_to_send()
    index = int(at * len(messages))
    match deed:
        case "flip":
            flipped = bytearray(messages[index])
            flipped[int(at * len(flipped))] ^= 1 << bit
            messages[index] = bytes(flipped)
        case "drop":
            del messages[index]
        case "double":
            messages.insert(index, messages[index])
        case "swap":
            messages[0], messages[index] = messages[index], messages[0]
        case _:
            messages.insert(index, invented)
    taken = received(relay, messages)
    assert taken == frames[: len(taken)]


@settings(max_examples=40, deadline=None)
@given(messages=st.lists(st.binary(max_size=200), max_size=4), which=st.sampled_from([Side.AGENT, Side.RELAY]))
def test_garbage_in_the_handshake_is_no_exception_of_another_kind(messages: list[bytes], which: Side) -> None:
    """And establishes nothing."""
    side = InnerTls(CONTEXT, "localhost") if which is Side.AGENT else InnerTls(SERVER, None)
    if which is Side.AGENT:
        side.start()
    assert received(side, messages) == []
    assert not side.is_established


@settings(max_examples=20, deadline=None)
@given(at=st.floats(0, 0.999), bit=st.integers(0, 7))
def test_an_altered_handshake_establishes_no_frame(at: float, bit: int) -> None:
    """Every bit of the relay's part is covered by its signature or its keys."""
    agent, relay = InnerTls(CONTEXT, "localhost"), InnerTls(SERVER, None)
    agent.start()
    for message in agent.data_to_send():
        relay.receive(message)
    answer = bytearray(b"".join(relay.data_to_send()))
    answer[int(at * len(answer))] ^= 1 << bit
    with contextlib.suppress(ssl.SSLError):
        agent.receive(bytes(answer))
        for message in agent.data_to_send():
            relay.receive(message)
    if not relay.is_established:
        return
    # Bits without a meaning, such as a record's legacy version, may differ: the connection is as it would be without.
    agent.send(b"said")
    assert received(relay, agent.data_to_send()) == [b"said"]
