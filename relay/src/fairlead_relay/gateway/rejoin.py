"""
Rejoin: an agent whose certificate lapsed, or is refused, proves that it holds the certificate's key and gets a new one.

The certificate must be by a CA that still counts, and the newest that the agent was seen with; for 90 days after its
end the proof is enough, later a person approves the key. A disabled cluster and a revoked agent are refused as in every
other way in. What the agent is told is also how it learns why TLS turned its certificate away: the handshake itself
cannot say. Must not log or repeat a secret.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from fairlead_relay.errors import AgentRefused, SigningRequestInvalid
from fairlead_relay.gateway.enrolment import awaiting_approval, note_certificate
from fairlead_relay.pki.authority import CertificateAuthority, IssuedCertificate, read_agent_certificate
from fairlead_relay.store import Store
from fairlead_relay.store.access import check_rejoin, is_approved, newest_made
from fairlead_relay.store.clusters import renew_certificate
from fairlead_shared.errors import ErrorCode
from fairlead_shared.frames import Rejoin
from fairlead_shared.identity import AgentIdentity, public_key_sha256
from fairlead_shared.rejoin import WINDOW_SECONDS, is_proof


class Rejoining:
    """
    Answers `rejoin`.

    Args:
        store: Holds agents and approvals.
        authority: Knows its own certificates, and issues new ones.
        clock: Seconds since the epoch.

    """

    def __init__(self, store: Store, authority: CertificateAuthority, clock: Callable[[], float]) -> None:
        self._store = store
        self._authority = authority
        self._clock = clock

    async def rejoin(self, request: Rejoin, nonce: str) -> tuple[AgentIdentity, IssuedCertificate]:
        """
        Check the proof and issue a certificate.

        Args:
            request: The agent's.
            nonce: The challenge that this connection was given; empty for none.

        Returns: Whom the certificate names, and the certificate.
        Raises: AgentRefused: no proof, no certificate of this relay, or one that counts no more.
        """
        shown = read_agent_certificate(request.certificate_pem)
        if shown is None or self._authority.issuer_of(shown.certificate) is None:
            raise AgentRefused(
                ErrorCode.UNAUTHORIZED,
                "the certificate is not from a CA that this relay trusts now; enrol again with a new token",
            )
        key = shown.certificate.public_key()
        if not nonce or not is_proof(key, nonce, request.csr_pem, request.signature):
            raise AgentRefused(
                ErrorCode.UNAUTHORIZED, "the proof is not by the certificate's key over this connection's challenge"
            )
        identity, key_sha256 = shown.identity, public_key_sha256(key)

        def write(connection: Connection) -> IssuedCertificate | None:
            now = self._clock()
            check_rejoin(connection, identity, shown.made_at)
            if now - shown.expires_at > WINDOW_SECONDS and not is_approved(
                connection, identity, "rejoin", key_sha256, now
            ):
                # A result, not an error: the wish must be committed.
                return None
            issued = self._authority.issue_agent(request.csr_pem, identity, newest_made(connection, identity))
            renew_certificate(connection, identity, issued.serial, issued.made_at, issued.not_after)
            note_certificate(connection, "agent.rejoin", identity, issued, now, {"old_serial": shown.serial})
            return issued

        try:
            issued = await self._store.write(write)
        except SigningRequestInvalid as error:
            raise AgentRefused(ErrorCode.MALFORMED, str(error)) from error
        if issued is None:
            raise awaiting_approval(identity, key_sha256)
        return identity, issued
