"""
Enrolment: from a one-time token to a certificate.

Two connections. The first trusts nobody: it fetches the relay's root and compares its fingerprint with the one inside
the token. The second trusts exactly that root, and carries the token's secret. The keys are in the Secret before
either, so that a crash anywhere is repaired by asking again: the relay answers the same token with the same key
again.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cryptography import x509

from fairlead_agent.channel import Channel
from fairlead_agent.dialling import Dialler
from fairlead_agent.errors import ChannelClosed, ConnectFailed, EnrolmentRefused
from fairlead_agent.identity_store import Identity, client_context, signing_request
from fairlead_shared.enrolment import EnrolmentToken
from fairlead_shared.errors import ErrorCode, TokenInvalid
from fairlead_shared.frames import CaAnswer, CaRequest, Enrol, Enrolled, Message
from fairlead_shared.identity import certificate_fingerprint
from fairlead_shared.session import Closed, Received, Session, Side

ANSWER_SECONDS = 15.0
"""How long the relay may take to answer: it signs a certificate and commits."""
_PERMANENT = {
    ErrorCode.TOKEN_INVALID, ErrorCode.TOKEN_EXPIRED, ErrorCode.UNAUTHORIZED, ErrorCode.REVOKED, ErrorCode.VERSION,
    ErrorCode.MALFORMED,
}  # fmt: skip
_MAX_TOKEN_BYTES = 4096
A = TypeVar("A", CaAnswer, Enrolled)


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


async def enrol(
    dialler: Dialler, token: EnrolmentToken, identity: Identity, monotonic: Callable[[], float]
) -> Enrolled:
    """
    Ask the relay for a certificate.

    Args:
        dialler: Knows the way to the relay.
        token: As `fairlead cluster create` printed it.
        identity: The stored keys.
        monotonic: The clock of sessions, in seconds.
    Returns: The relay's answer, not yet checked against the key.
    Raises: EnrolmentRefused: permanent, with the relay's or our own reason. ConnectFailed: temporary.
    """
    # Nothing secret travels on this connection, and what it brings is compared with the token.
    untrusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    untrusting.minimum_version = ssl.TLSVersion.TLSv1_3
    untrusting.check_hostname = False
    untrusting.verify_mode = ssl.CERT_NONE
    answer = await _ask(dialler, untrusting, CaRequest(), CaAnswer, monotonic)
    _check_root(answer.root_pem, token)
    request = Enrol(
        token_id=token.token_id,
        secret=token.secret,
        csr_pem=signing_request(identity.key),
        sealing_key=identity.sealing_public,
    )
    return await _ask(dialler, client_context(answer.root_pem, None), request, Enrolled, monotonic)


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


async def _ask(
    dialler: Dialler, context: ssl.SSLContext, question: Message, wanted: type[A], monotonic: Callable[[], float]
) -> A:
    """Ask one question on a connection of its own."""
    channel = await dialler.dial(context)
    session = Session(Side.AGENT, monotonic())
    session.send(question)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            for frame in session.data_to_send():
                await channel.send(frame)
            return await _answer(channel, session, wanted, dialler.address, monotonic)
    except TimeoutError:
        raise ConnectFailed("protocol", dialler.address, f"no answer within {ANSWER_SECONDS:.0f} s") from None
    except ChannelClosed as error:
        raise ConnectFailed(
            "protocol", dialler.address, f"the connection was closed before the answer: {error}"
        ) from None
    finally:
        await channel.close()


async def _answer(
    channel: Channel, session: Session, wanted: type[A], address: str, monotonic: Callable[[], float]
) -> A:
    while True:
        session.receive_frame(await channel.receive(), monotonic())
        for event in session.events():
            if isinstance(event, Received) and isinstance(event.message, wanted):
                return event.message
            if isinstance(event, Closed):
                if event.code in _PERMANENT and event.by_peer:
                    raise EnrolmentRefused(event.code, event.reason or "the relay gives no reason")
                raise ConnectFailed("protocol", address, f"{event.code}: {event.reason}")
