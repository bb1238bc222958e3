"""
DSSE envelopes: signatures over a typed payload, Ed25519 only.

Source: https://github.com/secure-systems-lab/dsse/blob/master/protocol.md (v1.0.2) and envelope.md. The tests use
securesystemslib as the oracle. Whom to trust is the caller's business: this module takes the keys as an argument.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field

from fairlead_shared.errors import EnvelopeInvalid, SignatureInsufficient
from fairlead_shared.identity import key_fingerprint

MAX_SIGNATURES = 32


class Signature(BaseModel):
    """One signature. `keyid` is a hint and is never trusted."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    keyid: str = Field(default="", max_length=256)
    sig: str = Field(max_length=128)
    """Standard base64 of the 64-byte Ed25519 signature."""


class Envelope(BaseModel):
    """A payload with its signatures, in DSSE's JSON field names."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    payload: str = Field(max_length=1 << 17)
    """Standard base64 of the payload bytes."""
    payload_type: Annotated[str, Field(alias="payloadType", max_length=256)]
    signatures: tuple[Signature, ...] = Field(max_length=MAX_SIGNATURES)

    def payload_bytes(self) -> bytes:
        """
        Return the decoded payload, not yet verified.

        Raises: EnvelopeInvalid: it is no base64.
        """
        return _decode(self.payload, "payload")


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes that are signed: `"DSSEv1" SP LEN(type) SP type SP LEN(body) SP body`."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload_type: str, payload: bytes, *keys: Ed25519PrivateKey) -> Envelope:
    """Return an envelope of `payload` with one signature per key."""
    message = pre_authentication_encoding(payload_type, payload)
    return Envelope(
        payload=base64.b64encode(payload).decode(),
        payload_type=payload_type,
        signatures=tuple(
            Signature(keyid=key_fingerprint(key.public_key()), sig=base64.b64encode(key.sign(message)).decode())
            for key in keys
        ),
    )


def verify(
    envelope: Envelope, payload_type: str, trusted: Mapping[str, Ed25519PublicKey], threshold: int
) -> tuple[bytes, tuple[str, ...]]:
    """
    Check an envelope against the trusted signers.

    Args:
        envelope: From anybody.
        payload_type: The only type the caller accepts.
        trusted: Signer name → key. Two names with one key count once.
        threshold: Distinct trusted keys that must have signed, ≥ 1.
    Returns: The payload bytes and the names of the signers whose signatures are good, sorted.
    Raises:
        EnvelopeInvalid: another payload type, or malformed base64.
        SignatureInsufficient: fewer good signatures than the threshold.
    """
    if threshold < 1:
        raise EnvelopeInvalid("a threshold below 1 would accept unsigned statements")
    if envelope.payload_type != payload_type:
        raise EnvelopeInvalid(f"its payload type is {envelope.payload_type!r}, expected {payload_type!r}")
    payload = envelope.payload_bytes()
    message = pre_authentication_encoding(payload_type, payload)
    signatures = [_decode(signature.sig, "signature") for signature in envelope.signatures]
    good: dict[bytes, str] = {}
    for name in sorted(trusted):
        key = trusted[name]
        if any(_is_good(key, signature, message) for signature in signatures):
            good.setdefault(key.public_bytes_raw(), name)
    if len(good) < threshold:
        raise SignatureInsufficient(len(good), threshold, tuple(sorted(trusted)))
    return payload, tuple(sorted(good.values()))


def _is_good(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _decode(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise EnvelopeInvalid(f"the {what} is no standard base64") from None
