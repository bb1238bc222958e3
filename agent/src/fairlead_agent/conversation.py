"""
Questions to the relay on a connection of their own, before there is a session: enrolment and rejoin.

What the relay answers besides is told apart here: refused for good, waiting for a person, or not to be had now.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from fairlead_agent.channel import Channel
from fairlead_agent.dialling import Dialler
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
        address: Of the relay, for errors.
        monotonic: The clock of sessions, in seconds.
    """

    def __init__(self, channel: Channel, address: str, monotonic: Callable[[], float]) -> None:
        self._channel = channel
        self._address = address
        self._monotonic = monotonic
        self._session = Session(Side.AGENT, monotonic())

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
            raise ConnectFailed("protocol", self._address, f"no answer within {ANSWER_SECONDS:.0f} s") from None
        except ChannelClosed as error:
            reason = f"the connection was closed before the answer: {error}"
            raise ConnectFailed("protocol", self._address, reason) from None

    async def _answer(self, wanted: type[A]) -> A:
        while True:
            self._session.receive_frame(await self._channel.receive(), self._monotonic())
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
async def conversation(
    dialler: Dialler, context: ssl.SSLContext, monotonic: Callable[[], float]
) -> AsyncIterator[Conversation]:
    """Open a connection for questions. Raises: ConnectFailed: names the hop."""
    channel = await dialler.dial(context)
    try:
        yield Conversation(channel, dialler.address, monotonic)
    finally:
        await channel.close()
