"""Bulk transfers by themselves; tests/unit/shared/test_session.py tests them inside a session."""

from __future__ import annotations

import pytest

from fairlead_shared.errors import ErrorCode, SessionMisuse
from fairlead_shared.frames import BulkCredit, BulkEnd, BulkRequest, Chunk, Message, decode_frame
from fairlead_shared.transfers import TransferEvent, Transfers, TransferWanted


class Harness:
    """The session's end of a Transfers object, recorded."""

    def __init__(self) -> None:
        self.queued: list[Message] = []
        self.events: list[TransferEvent] = []
        self.failures: list[ErrorCode] = []
        self.transfers = Transfers(
            2,
            100,
            queue=self.queued.append,
            emit=self.events.append,
            fail=lambda code, _reason: self.failures.append(code),
        )

    def request(self, transfer: int, credit: int, offset: int = 0) -> None:
        self.transfers.on_request(BulkRequest(transfer=transfer, sha256="0" * 64, credit=credit, offset=offset))


def test_absurd_credit_does_not_enlarge_our_buffer() -> None:
    """A peer that grants terabytes still makes us hold only our own bound."""
    harness = Harness()
    harness.request(1, 2**60)
    harness.transfers.on_credit(BulkCredit(transfer=1, credit=2**60))
    assert harness.transfers.room(1) == 100
    with pytest.raises(SessionMisuse):
        harness.transfers.send(1, bytes(101))


def test_resumed_transfer_starts_at_its_offset() -> None:
    """Chunks of a resumed transfer are numbered from the first byte wanted."""
    harness = Harness()
    harness.request(7, 50, offset=1000)
    assert harness.events == [TransferWanted(7, "0" * 64, 1000)]
    harness.transfers.send(7, b"abc")
    harness.transfers.end(7, 1003)
    frames = [decode_frame(frame) for frame in harness.transfers.next_chunks()]
    assert frames == [Chunk(transfer=7, offset=1000, payload=b"abc"), BulkEnd(transfer=7, size=1003)]
    assert harness.transfers.room(7) == 0


def test_number_in_use_is_the_peers_mistake() -> None:
    """Two requests of one number would mix two contents."""
    harness = Harness()
    harness.request(1, 10)
    harness.request(1, 10)
    assert harness.failures == [ErrorCode.PROTOCOL]


def test_transfers_take_turns() -> None:
    """One chunk per transfer and turn: a large one does not starve a small one."""
    harness = Harness()
    harness.request(1, 100)
    harness.request(2, 100)
    harness.transfers.send(1, bytes(60))
    harness.transfers.send(1, bytes(40))
    harness.transfers.send(2, b"x")
    first = [decode_frame(frame) for frame in harness.transfers.next_chunks()]
    assert [chunk.transfer for chunk in first if isinstance(chunk, Chunk)] == [1, 2]
