"""
The approach to the relay: a channel over the transport that this network bears, for sessions and questions alike.

Enrolment, rejoin and sessions ask here, so that what one of them learnt of the network serves the others. Retries and
waits are the link's business.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from fairlead_agent.channel import Channel
from fairlead_agent.dialling import Dialler
from fairlead_agent.errors import ConnectFailed
from fairlead_agent.opening import open_channel
from fairlead_agent.transport_choice import Transport, TransportChoice


class Approach:
    """
    Opens channels, and takes note of how they end.

    Args:
        dialler: Knows the way to the relay.
        choice: Counts what happened to channels and says what to try.
        monotonic: The clock of sessions, in seconds.
    """

    def __init__(self, dialler: Dialler, choice: TransportChoice, monotonic: Callable[[], float]) -> None:
        self._dialler = dialler
        self.choice = choice
        self.monotonic = monotonic

    @property
    def address(self) -> str:
        """HOST:PORT of the relay, for errors."""
        return self._dialler.address

    async def open(self, context: ssl.SSLContext) -> Channel:
        """
        Open a channel.

        Args:
            context: Whom to trust and which certificate to present.
        Raises: ConnectFailed: names the hop.
        """
        transport = self.choice.next(self.monotonic())
        try:
            return await open_channel(self._dialler, transport, context)
        except ConnectFailed as error:
            # A relay that is busy says when to come back; whoever else answers the upgrade does not.
            answered = error.hop in ("upgrade", "authorization") and error.retry_after_seconds == 0
            refused = answered or error.cut_upgrade
            self.choice.failed(transport, self.monotonic(), upgrade_refused=refused)
            raise

    def seconds_left(self, channel: Channel) -> float | None:
        """Return after how long a channel is to be left for a better one; None: it is the best."""
        if channel.transport != Transport.LONG_POLL:
            return None
        return self.choice.poll_seconds_left(self.monotonic())

    def ended(self, channel: Channel, lived_seconds: float, *, was_cut: bool) -> None:
        """Take note of a session that ended after its welcome; see TransportChoice."""
        self.choice.ended(Transport(channel.transport), lived_seconds, self.monotonic(), was_cut=was_cut)

    def came_to_nothing(self, channel: Channel) -> None:
        """Take note of a channel that was cut, or fell silent, before the relay's answer or welcome."""
        self.choice.failed(Transport(channel.transport), self.monotonic(), upgrade_refused=True)
