"""
TLS of the relay's two ports: contexts, and server certificates that are renewed while the relay runs.

A new certificate is loaded into the same context: connections that exist keep theirs, new ones get the new one. The
agent port asks for a client certificate without requiring it, since a client without one may enrol; what such a client
may do is the gateway's business.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

from fairlead_relay.pki.authority import SERVER_LIFE, CertificateAuthority, Clock
from fairlead_relay.pki.private_files import write_private

RENEW_AFTER = 2 / 3
"""Share of a server certificate's life after which it is renewed: ten days are left to notice that renewal fails."""


class ServerTls:
    """
    The contexts of agent port and API, and the certificate both use.

    Args:
        authority: Issues the certificate.
        names: DNS names and IP addresses under which the relay is reached.
        file: Where key and chain are written; OpenSSL reads them from a file only.
        clock: Seconds since the epoch.

    """

    def __init__(self, authority: CertificateAuthority, names: Sequence[str], file: Path, clock: Clock) -> None:
        self._authority = authority
        self._names = tuple(names)
        self._file = file
        self._clock = clock
        self._made_at = self._renew_at = 0.0
        self.agent_port = _context()
        # CERT_REQUIRED would turn away agents that come to enrol.
        self.agent_port.verify_mode = ssl.CERT_OPTIONAL
        self.agent_port.load_verify_locations(cadata=authority.trust_pem)
        self.api = _context()

    def change_authority(self) -> None:
        """
        Trust and present what the authority has now. What was trusted before passes the handshake until the restart.

        The gateway looks at the issuer once more, and says why it refuses one that counts no more.

        Raises: OSError: the file cannot be written; the certificate in use stays.
        """
        self.agent_port.load_verify_locations(cadata=self._authority.trust_pem)
        self._renew_at = 0.0
        self.renew_if_due()

    def renew_if_due(self) -> bool:
        """
        Issue and load a certificate at the first call, and again when two thirds of its life are over.

        Also when the clock went back behind its making: to everybody whose clock is right it is not valid yet.

        Returns: Whether a new one was loaded.
        Raises: OSError: the file cannot be written; the certificate in use stays.
        """
        now = self._clock()
        if self._made_at <= now < self._renew_at:
            return False
        pem = self._authority.issue_server(self._names)
        write_private(self._file, pem)
        for context in (self.agent_port, self.api):
            context.load_cert_chain(self._file)
        self._made_at = now
        self._renew_at = now + SERVER_LIFE.total_seconds() * RENEW_AFTER
        return True


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # A ticket would carry a client's identity past the end of its certificate.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    return context
