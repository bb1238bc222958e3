"""
The doctor: walks the way to the relay hop by hop, as the link does, and says what fails and what to do about it.

It goes through the same dialler, proxy and certificate as the agent itself. It says no hello, which would take the
session of an agent that runs, and changes nothing anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable
from dataclasses import replace

from cryptography import x509

from fairlead_agent.channel import Channel
from fairlead_agent.dialling import Dialler
from fairlead_agent.errors import ChannelClosed, ConnectFailed
from fairlead_agent.hop_failures import INSPECTION_REMEDY
from fairlead_agent.identity_store import Identity, client_context
from fairlead_agent.opening import open_channel
from fairlead_agent.transport_choice import Transport
from fairlead_shared.enrolment import EnrolmentToken
from fairlead_shared.findings import Finding
from fairlead_shared.frames import CaAnswer, CaRequest
from fairlead_shared.identity import certificate_fingerprint
from fairlead_shared.session import Closed, Received, Session, Side

ANSWER_SECONDS = 15.0
"""For the relay's answer to one question."""

REMEDIES = {
    "identity": "let the agent run once with a token of 'fairlead cluster create'",
    "DNS": "check the host in the relay's address, and the cluster's DNS",
    "TCP": "let the cluster dial this address (egress firewall, NetworkPolicy), or set HTTPS_PROXY if only a proxy "
    "may; check that the relay runs",
    "proxy": "check HTTPS_PROXY, NO_PROXY and what the proxy allows",
    "TLS": "check that this is the relay's agent port and that nothing on the way ends TLS; compare the certificate "
    "presented with the relay's own",
    "upgrade": "check that nothing on the way answers in the relay's place; the relay's log says more",
    "protocol": "check the relay's log, and that agent and relay are at most one version apart",
    "authorization": "see 'fairlead cluster show' for what the relay holds against this agent; a new token enrols anew",
    "long-poll": "the agent falls back to it only where websockets are cut; without it, see to the websocket",
}
"""What to do, by hop."""


class Doctor:
    """
    Examines one agent's way to its relay.

    Args:
        dialler: The agent's own.
        identity: What is stored; None if that could not be read, or is not there.
        token: The enrolment token, if there is one.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        dialler: Dialler,
        identity: Identity | None,
        token: EnrolmentToken | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._dialler = replace(dialler, passed=self._pass)
        self._identity = identity
        self._token = token
        self._clock = clock
        self.findings: list[Finding] = []
        """In the order of the hops; the last one may be the first that failed."""

    @property
    def is_well(self) -> bool:
        """Whether every hop passed."""
        return all(finding.passed for finding in self.findings)

    async def examine(self) -> None:
        """Walk the hops until one fails."""
        self._examine_identity()
        context = self._context()
        try:
            channel = await self._open(context)
            try:
                root_pem = await self._ask(channel)
            finally:
                await channel.close()
            if context.verify_mode is ssl.CERT_NONE and self._token is not None:
                # The root is the token's: now who presented a certificate can be held against it, as in enrolment.
                await self._verify(root_pem)
        except ConnectFailed as error:
            await self._explain(error)
            return
        await self._try_long_poll(context)

    async def _open(self, context: ssl.SSLContext) -> Channel:
        """Open a websocket; where it is refused, long-poll, as the agent does after some tries."""
        try:
            return await open_channel(self._dialler, Transport.WEBSOCKET, context)
        except ConnectFailed as error:
            if error.hop != "upgrade" and not error.cut_upgrade:
                raise
            passed: list[tuple[str, str]] = []
            second = replace(self._dialler, passed=lambda hop, found: passed.append((hop, found)))
            try:
                channel = await open_channel(second, Transport.LONG_POLL, context)
            except ConnectFailed:
                raise error from None
            self._pass("upgrade", f"no websocket is borne ({error.reason}); long-poll serves instead")
            # The hops below were walked before; what lies behind the refused upgrade was not.
            for hop, found in passed[[hop for hop, _ in passed].index("upgrade") + 1 :]:
                self._pass(hop, found)
            return channel

    async def _verify(self, root_pem: str) -> None:
        silent = replace(self._dialler, passed=_ignore)
        channel = await open_channel(silent, Transport.LONG_POLL, client_context(root_pem, None))
        await channel.close()

    async def _explain(self, failed: ConnectFailed) -> None:
        """Report a failed hop, with the certificate that was presented and whether somebody inspects TLS."""
        found = f"{failed.address}: {failed.reason}{await self._presented(failed)}"
        if failed.hop == "TLS" and not self._dialler.tls_inspection and await self._is_inspected():
            found += "; behind it the relay itself answers, with the root that this agent expects: TLS is inspected"
            self._fail(failed.hop, found, INSPECTION_REMEDY)
        else:
            self._fail(failed.hop, found)

    async def _is_inspected(self) -> bool:
        """Tell whether the relay answers behind a certificate that is not its own; nothing secret is said."""
        held = None if self._identity is None else self._identity.certificate
        if held is None:
            expected = "" if self._token is None else self._token.ca_fingerprint
        else:
            expected = certificate_fingerprint(x509.load_pem_x509_certificate(held.root_pem.encode()))
        silent = replace(self._dialler, passed=_ignore)
        with contextlib.suppress(ConnectFailed, ValueError):
            channel = await open_channel(silent, Transport.LONG_POLL, _unverified())
            try:
                root_pem = await self._root_of(channel, expected)
            finally:
                await channel.close()
            return certificate_fingerprint(x509.load_pem_x509_certificate(root_pem.encode())) == expected
        return False

    def _examine_identity(self) -> None:
        held = None if self._identity is None else self._identity.certificate
        if held is None:
            if self._token is None:
                self._fail("identity", "neither a certificate nor a token: the relay's certificate is not checked")
            else:
                self._pass("identity", f"no certificate yet; token {self._token.token_id} is there to enrol with")
            return
        left = held.leaf.not_valid_after_utc.timestamp() - self._clock()
        until = f"{held.leaf.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
        if left <= 0:
            self._fail("identity", f"the certificate of {held.agent} ended at {until}, by this machine's clock")
        else:
            self._pass("identity", f"{held.agent}, certificate valid until {until}")

    def _context(self) -> ssl.SSLContext:
        held = None if self._identity is None else self._identity.certificate
        return _unverified() if held is None else client_context(held.root_pem, self._identity)

    async def _root_of(self, channel: Channel, fingerprint: str) -> str:
        """Ask for the relay's root, which anybody may."""
        session = Session(Side.AGENT, time.monotonic())
        session.send(CaRequest(fingerprint=fingerprint))
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                for frame in session.data_to_send():
                    await channel.send(frame)
                return (await self._answer(channel, session)).root_pem
        except TimeoutError:
            raise ConnectFailed("protocol", self._dialler.address, f"no answer within {ANSWER_SECONDS:.0f} s") from None
        except ChannelClosed as closed:
            raise ConnectFailed("protocol", self._dialler.address, closed.reason) from closed

    async def _ask(self, channel: Channel) -> str:
        """Check that what answers is a relay that speaks with us, and the token's; returns its root."""
        root_pem = await self._root_of(channel, "" if self._token is None else self._token.ca_fingerprint)
        try:
            fingerprint = certificate_fingerprint(x509.load_pem_x509_certificate(root_pem.encode()))
        except ValueError:
            raise ConnectFailed("protocol", self._dialler.address, "it sends no certificate as its root") from None
        if self._token is not None and fingerprint != self._token.ca_fingerprint:
            reason = f"its root has fingerprint {fingerprint}, the token expects {self._token.ca_fingerprint}"
            raise ConnectFailed("authorization", self._dialler.address, f"{reason}: this is another relay")
        self._pass("protocol", f"a relay answers; the fingerprint of its root is {fingerprint}")
        return root_pem

    async def _answer(self, channel: Channel, session: Session) -> CaAnswer:
        while True:
            session.receive_frame(await channel.receive(), time.monotonic())
            for event in session.events():
                if isinstance(event, Received) and isinstance(event.message, CaAnswer):
                    return event.message
                if isinstance(event, Closed):
                    hop = "authorization" if event.by_peer else "protocol"
                    raise ConnectFailed(hop, self._dialler.address, f"{event.code}: {event.reason}")

    async def _try_long_poll(self, context: ssl.SSLContext) -> None:
        silent = replace(self._dialler, passed=_ignore)
        try:
            channel = await open_channel(silent, Transport.LONG_POLL, context)
        except ConnectFailed as error:
            self._fail("long-poll", f"{error.hop}: {error.reason}")
        else:
            await channel.close()
            self._pass("long-poll", "possible too, should websockets be cut")

    async def _presented(self, failed: ConnectFailed) -> str:
        """Describe the certificate that was not accepted, seen on another connection that trusts nobody."""
        if failed.hop != "TLS":
            return ""
        try:
            raw = await replace(self._dialler, passed=_ignore).connect()
        except ConnectFailed:
            return ""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                _, writer = await asyncio.open_connection(
                    sock=raw, ssl=_unverified(), server_hostname=self._dialler.host
                )
        except (OSError, TimeoutError):
            raw.close()
            return ""
        presented = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.transport.abort()
        if not presented:
            return ""
        leaf = x509.load_der_x509_certificate(presented)
        return (
            f"; presented: {leaf.subject.rfc4514_string()}, issued by {leaf.issuer.rfc4514_string()}, valid from "
            f"{leaf.not_valid_before_utc:%Y-%m-%d} to {leaf.not_valid_after_utc:%Y-%m-%d}"
        )

    def _pass(self, hop: str, found: str) -> None:
        self.findings.append(Finding(hop, passed=True, found=found))

    def _fail(self, hop: str, found: str, remedy: str = "") -> None:
        self.findings.append(Finding(hop, passed=False, found=found, remedy=remedy or REMEDIES[hop]))


def _ignore(_hop: str, _found: str) -> None:
    """Take no note: this connection is not part of the walk."""


def _unverified() -> ssl.SSLContext:
    """Return a context that trusts anybody: nothing secret is sent over it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
