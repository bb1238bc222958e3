"""
Bulk transfers of a session: content by hash, in chunks, within the receiver's credit. Part of the sans-I/O core.

Whoever wants content sends `bulk_request` with a first credit and gives credit back as it stores what arrived, so
that a slow disk slows its sender and nothing else. Chunks leave one per transfer and turn, behind all control frames:
a 100 MiB stream never delays a heartbeat by more than one chunk per transfer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from fairlead_shared.errors import ErrorCode, QueueFull, SessionMisuse
from fairlead_shared.frames import (
    MAX_CHUNK_BYTES,
    BulkCredit,
    BulkEnd,
    BulkRefuse,
    BulkRequest,
    Chunk,
    Message,
    encode_frame,
)


@dataclass(frozen=True, slots=True)
class ChunkReceived:
    """Bytes of a transfer this side asked for, in order."""

    transfer: int
    offset: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class TransferEnded:
    """A transfer this side asked for is over; `code` is None when all bytes arrived."""

    transfer: int
    size: int
    code: ErrorCode | None


@dataclass(frozen=True, slots=True)
class TransferWanted:
    """The peer asks for content: answer by send_bulk and end_bulk, or refuse_bulk."""

    transfer: int
    sha256: str
    offset: int


@dataclass(frozen=True, slots=True)
class TransferCredit:
    """A transfer this side serves may send again."""

    transfer: int


TransferEvent = ChunkReceived | TransferEnded | TransferWanted | TransferCredit


@dataclass(slots=True)
class _Serving:
    offset: int
    credit: int
    waiting: deque[bytes] = field(default_factory=deque)
    waiting_bytes: int = 0
    size: int | None = None
    """Set when the last byte was queued."""


@dataclass(slots=True)
class _Fetching:
    offset: int
    credit: int


class Transfers:
    """
    Both directions of one session's bulk transfers.

    Args:
        most: Transfers at the same time, each direction.
        credit_bytes: Credit granted at the start; also the most this side buffers for one it serves.
        queue: Queues a control frame of the session.
        emit: Records an event of the session.
        fail: Closes the session for what the peer did.
    """

    def __init__(
        self,
        most: int,
        credit_bytes: int,
        *,
        queue: Callable[[Message], None],
        emit: Callable[[TransferEvent], None],
        fail: Callable[[ErrorCode, str], None],
    ) -> None:
        self._most = most
        self._credit_bytes = credit_bytes
        self._queue = queue
        self._emit = emit
        self._fail = fail
        self._serving: dict[int, _Serving] = {}
        self._fetching: dict[int, _Fetching] = {}
        self._next = 1

    def clear(self) -> None:
        """Forget everything; the session is over."""
        self._serving.clear()
        self._fetching.clear()

    # As receiver.

    def fetch(self, sha256: str, offset: int) -> int:
        """Ask the peer for content. Raises: QueueFull: too many transfers."""
        if len(self._fetching) >= self._most:
            raise QueueFull(f"{len(self._fetching)} transfers are under way")
        transfer = self._next
        self._next += 1
        self._fetching[transfer] = _Fetching(offset, self._credit_bytes)
        self._queue(BulkRequest(transfer=transfer, sha256=sha256, offset=offset, credit=self._credit_bytes))
        return transfer

    def grant(self, transfer: int, consumed: int) -> None:
        """Give credit back for bytes that were stored; a transfer that just ended is ignored."""
        fetching = self._fetching.get(transfer)
        if fetching is not None and consumed > 0:
            fetching.credit += consumed
            self._queue(BulkCredit(transfer=transfer, credit=consumed))

    def abandon(self, transfer: int) -> None:
        """Stop caring; what still arrives is dropped, and without further credit it is little."""
        self._fetching.pop(transfer, None)

    def on_chunk(self, chunk: Chunk) -> None:
        """Take bytes from the peer; out of order or beyond the credit closes the session."""
        fetching = self._fetching.get(chunk.transfer)
        if fetching is None:
            return
        if chunk.offset != fetching.offset or len(chunk.payload) > fetching.credit:
            self._fail(ErrorCode.PROTOCOL, f"transfer {chunk.transfer}: bytes out of order or beyond the credit")
            return
        fetching.offset += len(chunk.payload)
        fetching.credit -= len(chunk.payload)
        self._emit(ChunkReceived(chunk.transfer, chunk.offset, chunk.payload))

    def on_end(self, message: BulkEnd) -> None:
        """The peer says that was all; a size that differs from what came is a failure."""
        fetching = self._fetching.pop(message.transfer, None)
        if fetching is not None:
            code = None if fetching.offset == message.size else ErrorCode.BUNDLE_UNAVAILABLE
            self._emit(TransferEnded(message.transfer, message.size, code))

    def on_refuse(self, message: BulkRefuse) -> None:
        """The peer does not have it."""
        if self._fetching.pop(message.transfer, None) is not None:
            self._emit(TransferEnded(message.transfer, 0, message.code))

    # As sender.

    def on_request(self, message: BulkRequest) -> None:
        """The peer asks; one too many is refused, a number in use closes the session."""
        if message.transfer in self._serving:
            self._fail(ErrorCode.PROTOCOL, f"transfer {message.transfer} is already under way")
        elif len(self._serving) >= self._most:
            self._queue(BulkRefuse(transfer=message.transfer, code=ErrorCode.OVERLOADED, message="too many transfers"))
        else:
            self._serving[message.transfer] = _Serving(message.offset, message.credit)
            self._emit(TransferWanted(message.transfer, message.sha256, message.offset))

    def on_credit(self, message: BulkCredit) -> None:
        """The peer stored something. Absurd credit gains it nothing: room() is capped by our own bound."""
        serving = self._serving.get(message.transfer)
        if serving is not None:
            serving.credit += message.credit
            self._emit(TransferCredit(message.transfer))

    def room(self, transfer: int) -> int:
        """Return how many bytes may be queued now; 0 for a transfer that ended."""
        serving = self._serving.get(transfer)
        if serving is None or serving.size is not None:
            return 0
        return max(0, min(serving.credit, self._credit_bytes) - serving.waiting_bytes)

    def send(self, transfer: int, payload: bytes) -> None:
        """Queue bytes. Raises: SessionMisuse: more than room() allows."""
        if len(payload) > self.room(transfer):
            raise SessionMisuse(f"transfer {transfer}: {len(payload)} bytes exceed the credit")
        serving = self._serving[transfer]
        serving.waiting.extend(
            payload[start : start + MAX_CHUNK_BYTES] for start in range(0, len(payload), MAX_CHUNK_BYTES)
        )
        serving.waiting_bytes += len(payload)

    def end(self, transfer: int, size: int) -> None:
        """Every byte was queued; a transfer the peer lost interest in is ignored."""
        serving = self._serving.get(transfer)
        if serving is not None:
            serving.size = size

    def refuse(self, transfer: int, code: ErrorCode, message: str) -> None:
        """Answer that the content is not to be had."""
        if self._serving.pop(transfer, None) is not None:
            self._queue(BulkRefuse(transfer=transfer, code=code, message=message))

    def next_chunks(self) -> list[bytes]:
        """Return at most one chunk per transfer, and the ends of those that are done."""
        frames: list[bytes] = []
        for transfer, serving in list(self._serving.items()):
            if serving.waiting:
                payload = serving.waiting.popleft()
                frames.append(encode_frame(Chunk(transfer=transfer, offset=serving.offset, payload=payload)))
                serving.offset += len(payload)
                serving.credit -= len(payload)
                serving.waiting_bytes -= len(payload)
            if serving.size is not None and not serving.waiting:
                frames.append(encode_frame(BulkEnd(transfer=transfer, size=serving.size)))
                del self._serving[transfer]
        return frames
