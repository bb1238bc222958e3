"""
Rejoin: a new certificate by proof of the old one's key, after an absence longer than the certificate's life.

Also what the agent does when its certificate is refused in the handshake: TLS cannot say why, the relay's answer here
does. The connection shows no client certificate, and trusts the relay's pinned root as every other.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from fairlead_agent.approach import Approach
from fairlead_agent.conversation import conversation
from fairlead_agent.errors import IdentityInvalid
from fairlead_agent.identity_store import Identity, client_context, new_key, signing_request
from fairlead_shared.frames import CertificateIssued, Challenge, ChallengeRequest
from fairlead_shared.frames import Rejoin as RejoinRequest
from fairlead_shared.rejoin import sign_proof


@dataclass(frozen=True, slots=True)
class Rejoined:
    """What a rejoin brought."""

    key: ec.EllipticCurvePrivateKey
    issued: CertificateIssued
    relay_clock: float
    """Seconds since the epoch, as the relay has it."""


async def rejoin(approach: Approach, identity: Identity) -> Rejoined:
    """
    Ask for a new certificate, with a new key.

    Args:
        approach: The way to the relay.
        identity: With its last certificate.
    Returns: The relay's answer, not yet checked against the key.
    Raises: EnrolmentRefused: permanent, with the relay's reason. ApprovalPending, ConnectFailed: temporary.
        IdentityInvalid: there never was a certificate.
    """
    if identity.certificate is None:
        raise IdentityInvalid("the agent has no certificate to rejoin with")
    key = new_key()
    csr_pem = signing_request(key)
    async with conversation(approach, client_context(identity.certificate.root_pem, None)) as relay:
        challenge = await relay.ask(ChallengeRequest(), Challenge)
        proof = RejoinRequest(
            certificate_pem=identity.certificate.chain_pem,
            csr_pem=csr_pem,
            signature=sign_proof(identity.key, challenge.nonce, csr_pem),
        )
        return Rejoined(key, await relay.ask(proof, CertificateIssued), challenge.at)
