"""
Questions to the relay on a connection of their own, before there is a session: enrolment and rejoin.

What the relay answers besides is told apart here: refused for good, waiting for a person, or not to be had now.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import TypeVar

from fairlead_agent.approach import Approach
from fairlead_agent.channel import Channel
from fairlead_agent.errors import ApprovalPending, ChannelClosed, ConnectFailed, EnrolmentRefused
from fairlead_shared.errors import ErrorCode
from fairlead_shared.frames import CaAnswer, CertificateIssued, Challenge, Enrolled, Message
from fairlead_shared.session import Closed, Received, Session, Side

ANSWER_SECONDS = 15.0
"""How long the relay may take to answer: it signs a certificate and commits."""
_PERMANENT = {
    ErrorCode.TOKEN_INVALID, ErrorCode.TOKEN_EXPIRED, ErrorCode.UNAUTHORIZED, ErrorCode.REVOKED, ErrorCode.VERSION,
    ErrorCode.MALFORMED,
}  # fmt: skip
A = TypeVar("A", CaAnswer, Enrolled, Challenge, CertificateIssued)


class Conversation:
    """
    Questions and answers on one connection.

    Args:
        channel: Just opened.
        approach: Opened it, and learns whether the network bore it.
    """

    def __init__(self, channel: Channel, approach: Approach) -> None:
        self._channel = channel
        self._approach = approach
        self._address = approach.address
        self._session = Session(Side.AGENT, approach.monotonic())

    async def ask(self, question: Message, wanted: type[A]) -> A:
        """
        Ask one question.

        Raises: EnrolmentRefused: the relay says no, for good. ApprovalPending: a person must decide. ConnectFailed:
            temporary.
        """
        self._session.send(question)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                for frame in self._session.data_to_send():
                    await self._channel.send(frame)
                return await self._answer(wanted)
        except TimeoutError:
            self._approach.came_to_nothing(self._channel)
            raise ConnectFailed("protocol", self._address, f"no answer within {ANSWER_SECONDS:.0f} s") from None
        except ChannelClosed as error:
            if not error.by_relay:
                self._approach.came_to_nothing(self._channel)
            reason = f"the connection was closed before the answer: {error}"
            raise ConnectFailed("protocol", self._address, reason) from None

    async def _answer(self, wanted: type[A]) -> A:
        while True:
            self._session.receive_frame(await self._channel.receive(), self._approach.monotonic())
            for event in self._session.events():
                if isinstance(event, Received) and isinstance(event.message, wanted):
                    return event.message
                if isinstance(event, Closed):
                    self._refused(event)

    def _refused(self, closed: Closed) -> None:
        if closed.code is ErrorCode.APPROVAL_PENDING:
            raise ApprovalPending(closed.reason)
        if closed.code in _PERMANENT and closed.by_peer:
            raise EnrolmentRefused(closed.code, closed.reason or "the relay gives no reason")
        raise ConnectFailed("protocol", self._address, f"{closed.code}: {closed.reason}")


@contextlib.asynccontextmanager
async def conversation(approach: Approach, context: ssl.SSLContext) -> AsyncIterator[Conversation]:
    """Open a connection for questions. Raises: ConnectFailed: names the hop."""
    channel = await approach.open(context)
    try:
        yield Conversation(channel, approach)
    finally:
        await channel.close()
