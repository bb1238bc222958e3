"""Sends one bundle to an agent, as fast as the agent's credit allows and never faster than the connection drains."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

from fairlead_relay.errors import BlobInvalid, StoreUnavailable
from fairlead_relay.store.blobs import Blobs
from fairlead_shared.errors import ErrorCode
from fairlead_shared.session import Session

PATIENCE_SECONDS: Final = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
"""Between tries to read what cannot be read now: two minutes in all, as long as a database takes to move its host."""


class BundleSender:
    """
    One bulk transfer.

    Args:
        session: The connection's session, in which the agent asked for the transfer.
        wake: Has queued frames written.
        transfer: The transfer's number.

    """

    def __init__(self, session: Session, wake: Callable[[], None], transfer: int) -> None:
        self._session = session
        self._wake = wake
        self._transfer = transfer
        self._credit = asyncio.Event()

    def credit_arrived(self) -> None:
        """Go on: the agent granted more bytes."""
        self._credit.set()

    async def send(self, blobs: Blobs, sha256: str, offset: int) -> None:
        """
        Send the bundle's bytes from an offset to the end, or refuse; waits while they cannot be read now.

        Args:
            blobs: Holds the content.
            sha256: Which content.
            offset: First byte wanted.

        """
        patience = iter(PATIENCE_SECONDS)
        while True:
            try:
                async for piece in _in_thread(blobs.read(sha256, offset)):
                    await self._send_piece(piece)
                    offset += len(piece)
                    patience = iter(PATIENCE_SECONDS)
            except BlobInvalid as error:
                self._session.refuse_bulk(self._transfer, ErrorCode.BUNDLE_UNAVAILABLE, str(error))
            except StoreUnavailable as error:
                if (seconds := next(patience, None)) is not None:
                    await asyncio.sleep(seconds)
                    continue
                self._session.refuse_bulk(self._transfer, ErrorCode.BUNDLE_UNAVAILABLE, str(error))
            else:
                self._session.end_bulk(self._transfer, offset)
            break
        self._wake()

    async def _send_piece(self, piece: bytes) -> None:
        while piece:
            room = self._session.bulk_room(self._transfer)
            if room == 0:
                self._credit.clear()
                await self._credit.wait()
                continue
            self._session.send_bulk(self._transfer, piece[:room])
            piece = piece[room:]
            self._wake()


async def _in_thread(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield what blocks while it is read and unzipped: one piece of 64 KiB at a time."""
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece
