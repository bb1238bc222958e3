"""
Enrolment: a one-time token and a certificate signing request in, a certificate out.

What an agent becomes is decided by the token alone: nothing in its request names an organization or a cluster. Must not
log or repeat a secret.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from sqlalchemy import Connection

from fairlead_relay.errors import AgentRefused, EnrolmentRefused, SigningRequestInvalid
from fairlead_relay.pki.authority import CertificateAuthority, IssuedCertificate, request_key
from fairlead_relay.store import Store
from fairlead_relay.store.access import check_enabled, is_approved, needs_approval, newest_made
from fairlead_relay.store.audit import Actor, Entry, append_records
from fairlead_relay.store.clusters import Enrolled as NewlyEnrolled
from fairlead_relay.store.clusters import enrol_agent, use_enrolment_token
from fairlead_relay.store.outbox import iso_time
from fairlead_relay.store.revocation import disconnect_agent
from fairlead_shared.errors import ErrorCode
from fairlead_shared.frames import Enrol, Enrolled
from fairlead_shared.identity import AgentIdentity, AgentName, ClusterName, OrganizationName, identity_fingerprint

DEFAULT_AGENT = AgentName("default")
"""A cluster has one agent for now."""


class Enrolment:
    """
    Answers `enrol`.

    Args:
        store: Holds tokens and agents.
        authority: Issues certificates.
        clock: Seconds since the epoch.

    """

    def __init__(self, store: Store, authority: CertificateAuthority, clock: Callable[[], float]) -> None:
        self._store = store
        self._authority = authority
        self._clock = clock

    async def enrol(self, request: Enrol) -> tuple[AgentIdentity, Enrolled]:
        """
        Spend a token, once; the same key may ask again until the token expires, since the answer may have been lost.

        Returns: Whom the certificate names, and the answer.
        Raises: EnrolmentRefused: the token or the request is not good. AgentRefused: the cluster is disabled, or a
            person has yet to approve the key.
        """
        if not is_sealing_key(request.sealing_key):
            raise EnrolmentRefused(ErrorCode.MALFORMED, "the sealing key is no base64 of a raw X25519 public key")
        try:
            key_sha256 = hashlib.sha256(request_key(request.csr_pem)).hexdigest()
        except SigningRequestInvalid as error:
            raise EnrolmentRefused(ErrorCode.MALFORMED, str(error)) from error
        secret_sha256 = hashlib.sha256(request.secret.encode()).hexdigest()

        def write(connection: Connection) -> tuple[AgentIdentity, IssuedCertificate | None]:
            now = self._clock()
            grant = use_enrolment_token(connection, request.token_id, secret_sha256, key_sha256, now)
            identity = AgentIdentity(OrganizationName(grant.organization), ClusterName(grant.cluster), DEFAULT_AGENT)
            check_enabled(connection, grant.organization, grant.cluster)
            if needs_approval(connection, grant.organization, grant.cluster) and not is_approved(
                connection, identity, "enrol", key_sha256, now
            ):
                # A result, not an error: the wish must be committed.
                return identity, None
            issued = self._authority.issue_agent(request.csr_pem, identity, newest_made(connection, identity))
            keys = (request.sealing_key, key_sha256)
            enrolled = NewlyEnrolled(*keys, issued.serial, issued.made_at, issued.not_after)
            enrol_agent(connection, identity, enrolled, now)
            # Another agent that serves the cluster until now has lost its place.
            disconnect_agent(connection, grant.organization, grant.cluster, now)
            note_certificate(connection, "agent.enrol", identity, issued, now, {"enrolment_token": request.token_id})
            return identity, issued

        try:
            identity, certificate = await self._store.write(write)
        except SigningRequestInvalid as error:
            raise EnrolmentRefused(ErrorCode.MALFORMED, str(error)) from error
        if certificate is None:
            raise awaiting_approval(identity, key_sha256)
        return identity, Enrolled(
            certificate_pem=certificate.chain_pem,
            root_pem=self._authority.root_pem,
            relay_signer=base64.b64encode(self._authority.signer.public_key().public_bytes_raw()).decode(),
        )


def note_certificate(
    connection: Connection,
    verb: str,
    identity: AgentIdentity,
    issued: IssuedCertificate,
    now: float,
    by: Mapping[str, str],
) -> None:
    """Record that an agent came in and got a certificate, by what it proved itself with."""
    actor = Actor("agent", str(identity.cluster), str(identity.agent))
    after = {**by, "certificate_serial": issued.serial, "certificate_expires_at": iso_time(issued.not_after)}
    target = f"cluster/{identity.cluster}"
    append_records(connection, [Entry(identity.organization, actor, verb, target, after=after)], now)


def awaiting_approval(identity: AgentIdentity, key_sha256: str) -> AgentRefused:
    """Return what an agent is told while a person has yet to approve its key."""
    fingerprint = identity_fingerprint(key_sha256)
    return AgentRefused(
        ErrorCode.APPROVAL_PENDING,
        f"waits for approval: fingerprint {fingerprint}; 'fairlead cluster approve {identity.cluster} {fingerprint}' "
        "lets it in",
    )


def is_sealing_key(text: str) -> bool:
    """Tell whether text is the base64 of a raw X25519 public key."""
    try:
        X25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
    except (ValueError, binascii.Error):
        return False
    return True
