"""
What a connection's certificate is, and what becomes of it: enrolment, rejoin, renewal, and the end.

Why here: this is the same for every transport, and all of it is decided by certificates and the store, never by what a
message claims. A client without a certificate may do three things only: fetch the CA, enrol, rejoin; and may not stay.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import structlog
from sqlalchemy import Connection

from fairlead_relay.errors import AgentRefused, SigningRequestInvalid
from fairlead_relay.gateway.enrolment import Enrolment
from fairlead_relay.gateway.rejoin import Rejoining
from fairlead_relay.pki.authority import AgentCertificate, CertificateAuthority, IssuedCertificate
from fairlead_relay.store import Store
from fairlead_relay.store.access import Presented, check_agent, newest_made, note_presented
from fairlead_relay.store.clusters import renew_certificate
from fairlead_shared.errors import ErrorCode
from fairlead_shared.frames import (
    CaAnswer,
    CaRequest,
    CertificateDue,
    CertificateIssued,
    CertificateRequest,
    CertificateStored,
    Challenge,
    ChallengeRequest,
    Enrol,
    Message,
    Rejoin,
)

UNIDENTIFIED_SECONDS: Final = 15.0
"""How long a client without a certificate may stay: enrolling takes two round trips and one write."""

SOON_SECONDS: Final = 5.0
"""Within how long an agent with a certificate of an old CA renews after it connected."""

KEPT_CERTIFICATES: Final = 8
"""Certificates remembered per connection until the agent says that it stored them; it asks for one at a time."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Identities:
    """What decides on identities."""

    store: Store
    authority: CertificateAuthority
    enrolment: Enrolment
    rejoining: Rejoining
    clock: Callable[[], float]
    """Seconds since the epoch."""
    on_refused: Callable[[str], None]
    """Called with a short reason, one of a few, for each enrolment and rejoin that is refused."""

    @classmethod
    def of(
        cls,
        store: Store,
        authority: CertificateAuthority,
        clock: Callable[[], float],
        on_refused: Callable[[str], None] = lambda _: None,
    ) -> Identities:
        """Put them together."""
        enrolment, rejoining = Enrolment(store, authority, clock), Rejoining(store, authority, clock)
        return cls(store, authority, enrolment, rejoining, clock, on_refused)


class Close(Protocol):
    """Ends a connection, after the peer was told why."""

    def __call__(self, reason: str, code: ErrorCode, /) -> None:
        """End it."""


class Credentials:
    """
    The identity of one connection.

    Args:
        certificate: Its client certificate, verified by TLS; None without one.
        identities: What decides.
        send: Queues a message for the agent.
        close: Ends the connection.

    """

    def __init__(
        self,
        certificate: AgentCertificate | None,
        identities: Identities,
        send: Callable[[Message], None],
        close: Close,
    ) -> None:
        self._certificate = certificate
        self._identities = identities
        self._send = send
        self._close = close
        self._issued: dict[str, Presented] = {}
        """Certificates shown or issued on this connection, by serial, the newest last."""
        self._end: asyncio.TimerHandle | None = None
        self._nonce = ""

    def watch(self) -> None:
        """Have the connection cut when its certificate ends, or soon if it has none."""
        if self._certificate is not None:
            self._end_at(self._certificate.expires_at)
            return
        reason = "a client without a certificate may not stay"
        loop = asyncio.get_running_loop()
        self._end = loop.call_later(UNIDENTIFIED_SECONDS, self._close, reason, ErrorCode.SILENCE)

    def forget(self) -> None:
        """The connection is over. Idempotent."""
        if self._end is not None:
            self._end.cancel()

    def present(self) -> Presented | None:
        """Return the connection's certificate for its hello; None closes it: there is none, or it counts no more."""
        shown = self._certificate
        if shown is None:
            self._close("a client certificate of this relay is needed; enrol first", ErrorCode.UNAUTHORIZED)
            return None
        issuer = self._identities.authority.issuer_of(shown.certificate)
        if issuer is None:
            reason = "the client certificate is not from a CA that this relay trusts now; enrol again with a new token"
            self._close(reason, ErrorCode.UNAUTHORIZED)
            return None
        presented = Presented(shown.serial, issuer, shown.made_at, shown.expires_at)
        self._issued[presented.serial] = presented
        return presented

    def ask_to_renew(self, within_seconds: float) -> None:
        """Have the agent renew soon, unless its last certificate is of the CA in force already."""
        issuers = [presented.issuer for presented in self._issued.values()]
        if self._identities.authority.issuer not in issuers[-1:]:
            self._send(CertificateDue(within_seconds=within_seconds))

    async def take(self, message: Message) -> bool:
        """
        Take a message if it is about identity.

        Returns: Whether it is.
        Raises: StoreUnavailable: the agent asks again.
        """
        match message:
            case CaRequest():
                await self._on_ca_request(message)
            case Enrol():
                await self._on_enrol(message)
            case ChallengeRequest():
                self._nonce = secrets.token_hex(32)
                self._send(Challenge(nonce=self._nonce, at=self._identities.clock()))
            case Rejoin():
                await self._on_rejoin(message)
            case CertificateRequest():
                await self._on_certificate_request(message)
            case CertificateStored():
                await self._on_certificate_stored(message)
            case _:
                return False
        return True

    async def _on_ca_request(self, message: CaRequest) -> None:
        """Answer anybody; but an agent that may not connect is told so, for `fairlead-agent doctor` to say it."""
        if self._certificate is not None:
            if self.present() is None:
                return
            identity, made_at = self._certificate.identity, self._certificate.made_at
            try:
                await self._identities.store.read(lambda connection: check_agent(connection, identity, made_at))
            except AgentRefused as error:
                self._close(error.reason, error.code)
                return
        self._send(CaAnswer(root_pem=self._identities.authority.root_pem_of(message.fingerprint)))

    async def _on_enrol(self, message: Enrol) -> None:
        try:
            identity, answer = await self._identities.enrolment.enrol(message)
        except AgentRefused as error:
            self._identities.on_refused(f"enrol_{error.code}")
            _log.warning("enrolment refused", code=error.code, reason=error.reason, token_id=message.token_id)
            self._close(error.reason, error.code)
            return
        _log.info("agent enrolled", enrolled=str(identity), token_id=message.token_id)
        self._send(answer)

    async def _on_rejoin(self, message: Rejoin) -> None:
        nonce, self._nonce = self._nonce, ""
        try:
            identity, issued = await self._identities.rejoining.rejoin(message, nonce)
        except AgentRefused as error:
            self._identities.on_refused(f"rejoin_{error.code}")
            _log.warning("rejoin refused", code=error.code, reason=error.reason)
            self._close(error.reason, error.code)
            return
        _log.info("agent rejoined", rejoined=str(identity))
        root_pem = self._identities.authority.root_pem
        self._send(CertificateIssued(certificate_pem=issued.chain_pem, root_pem=root_pem))

    async def _on_certificate_request(self, message: CertificateRequest) -> None:
        if self._certificate is None:
            return
        identity, authority = self._certificate.identity, self._identities.authority

        def write(connection: Connection) -> IssuedCertificate:
            check_agent(connection, identity)
            issued = authority.issue_agent(message.csr_pem, identity, newest_made(connection, identity))
            renew_certificate(connection, identity, issued.serial, issued.made_at, issued.not_after)
            return issued

        try:
            issued = await self._identities.store.write(write)
        except SigningRequestInvalid as error:
            self._close(str(error), ErrorCode.MALFORMED)
            return
        except AgentRefused as error:
            self._close(error.reason, error.code)
            return
        self._issued[issued.serial] = Presented(issued.serial, issued.issuer, issued.made_at, issued.not_after)
        while len(self._issued) > KEPT_CERTIFICATES:
            del self._issued[next(iter(self._issued))]
        self._end_at(issued.not_after)
        self._send(CertificateIssued(certificate_pem=issued.chain_pem, root_pem=authority.root_pem))

    async def _on_certificate_stored(self, message: CertificateStored) -> None:
        presented = self._issued.get(message.serial)
        if self._certificate is not None and presented is not None:
            identity = self._certificate.identity
            await self._identities.store.write(lambda connection: note_presented(connection, identity, presented))

    def _end_at(self, expires_at: float) -> None:
        if self._end is not None:
            self._end.cancel()
        left = max(0.0, expires_at - self._identities.clock())
        reason = "the connection's certificate ended and was not renewed"
        self._end = asyncio.get_running_loop().call_later(left, self._close, reason, ErrorCode.CERTIFICATE_EXPIRED)
