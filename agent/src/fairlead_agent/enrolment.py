"""
Enrolment: from a one-time token to a certificate.

Two connections. The first trusts nobody: it fetches the relay's root and compares its fingerprint with the one inside
the token. The second trusts exactly that root, and carries the token's secret. The keys are in the Secret before
either, so that a crash anywhere is repaired by asking again: the relay answers the same token with the same key
again.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from cryptography import x509

from fairlead_agent.approach import Approach
from fairlead_agent.conversation import conversation
from fairlead_agent.errors import EnrolmentRefused
from fairlead_agent.identity_store import Identity, client_context, signing_request
from fairlead_shared.enrolment import EnrolmentToken
from fairlead_shared.errors import ErrorCode, TokenInvalid
from fairlead_shared.frames import CaAnswer, CaRequest, Enrol, Enrolled
from fairlead_shared.identity import certificate_fingerprint

_MAX_TOKEN_BYTES = 4096


def read_token(path: Path | None) -> EnrolmentToken:
    """
    Read the token's file.

    Args:
        path: From the settings; None if there is none.
    Raises: EnrolmentRefused: no file, an empty one, or one that holds no token. The token is never repeated.
    """
    if path is None:
        raise EnrolmentRefused(
            ErrorCode.TOKEN_INVALID,
            "the agent has no valid certificate and no token: set FAIRLEAD_ENROLMENT_TOKEN_FILE",
        )
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_TOKEN_BYTES).decode(errors="replace")
    except OSError as error:
        raise EnrolmentRefused(ErrorCode.TOKEN_INVALID, f"{path} cannot be read: {error.strerror}") from None
    try:
        return EnrolmentToken.parse(text)
    except TokenInvalid as error:
        raise EnrolmentRefused(ErrorCode.TOKEN_INVALID, f"{path}: {error}") from None


async def enrol(approach: Approach, token: EnrolmentToken, identity: Identity) -> Enrolled:
    """
    Ask the relay for a certificate.

    Args:
        approach: The way to the relay.
        token: As `fairlead cluster create` printed it.
        identity: The stored keys.
    Returns: The relay's answer, not yet checked against the key.
    Raises: EnrolmentRefused: permanent, with the relay's or our own reason. ApprovalPending, ConnectFailed: temporary.
    """
    # Nothing secret travels on this connection, and what it brings is compared with the token.
    untrusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    untrusting.minimum_version = ssl.TLSVersion.TLSv1_3
    untrusting.check_hostname = False
    untrusting.verify_mode = ssl.CERT_NONE
    async with conversation(approach, untrusting) as relay:
        answer = await relay.ask(CaRequest(fingerprint=token.ca_fingerprint), CaAnswer)
    _check_root(answer.root_pem, token)
    request = Enrol(
        token_id=token.token_id,
        secret=token.secret,
        csr_pem=signing_request(identity.enrolment_key),
        sealing_key=identity.sealing_public,
    )
    async with conversation(approach, client_context(answer.root_pem, None)) as relay:
        return await relay.ask(request, Enrolled)


def _check_root(root_pem: str, token: EnrolmentToken) -> None:
    try:
        fingerprint = certificate_fingerprint(x509.load_pem_x509_certificate(root_pem.encode()))
    except ValueError:
        raise EnrolmentRefused(ErrorCode.UNAUTHORIZED, "the relay sent no certificate as its root") from None
    if fingerprint != token.ca_fingerprint:
        raise EnrolmentRefused(
            ErrorCode.UNAUTHORIZED,
            f"the root certificate of what answers has fingerprint {fingerprint}, the token expects "
            f"{token.ca_fingerprint}: this is another relay, or somebody stands between",
        )
