"""Sends one bundle to an agent, as fast as the agent's credit allows and never faster than the connection drains."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fairlead_relay.errors import BlobInvalid
from fairlead_relay.store.blobs import Blobs
from fairlead_shared.errors import ErrorCode
from fairlead_shared.session import Session


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
        Send the bundle's bytes from an offset to the end, or refuse.

        Args:
            blobs: Holds the content.
            sha256: Which content.
            offset: First byte wanted.

        """
        pieces = blobs.read(sha256, offset)
        try:
            # Reading and unzipping block: one piece of 64 KiB at a time, in a thread.
            while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                await self._send_piece(piece)
                offset += len(piece)
        except BlobInvalid as error:
            self._session.refuse_bulk(self._transfer, ErrorCode.BUNDLE_UNAVAILABLE, str(error))
        else:
            self._session.end_bulk(self._transfer, offset)
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
