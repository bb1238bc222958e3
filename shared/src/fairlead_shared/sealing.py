"""
Sealed values: Secret data that only the agent's sealing key opens.

A fresh 256-bit data key encrypts the values (AES-256-GCM); HPKE (RFC 9180, base mode, DHKEM(X25519, HKDF-SHA256),
HKDF-SHA256, AES-256-GCM) wraps the data key once per recipient. The context (organization, application, environment,
namespace, name) is bound into both, so that a sealed value moved to another Secret does not open. The sealing key is
separate from the TLS key.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fairlead_shared.canonical import canonical_json
from fairlead_shared.errors import SealInvalid
from fairlead_shared.identity import key_fingerprint

MAX_RECIPIENTS = 16
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_DATA_KEY_BYTES = 32
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class SealContext:
    """The one place where a sealed value may be opened."""

    organization: str
    application: str
    environment: str
    namespace: str
    name: str

    def to_bytes(self) -> bytes:
        """Return the bytes bound into the ciphertext."""
        parts = [self.organization, self.application, self.environment, self.namespace, self.name]
        return b"fairlead sealed/1\n" + canonical_json(parts)


class WrappedKey(BaseModel):
    """The data key for one recipient."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipient: str = Field(max_length=64)
    """Fingerprint of the sealing key that opens it."""
    key: str = Field(max_length=256)
    """Base64 of HPKE's enc ‖ ciphertext."""


class SealedValues(BaseModel):
    """The `sealedData` of a Secret in a bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[WrappedKey, ...] = Field(min_length=1, max_length=MAX_RECIPIENTS)
    nonce: str = Field(max_length=16)
    ciphertext: str = Field(max_length=1_500_000)
    """Base64; a Secret holds at most 1 MiB."""


def seal(values: Mapping[str, bytes], context: SealContext, recipients: Sequence[X25519PublicKey]) -> SealedValues:
    """
    Seal the values of one Secret.

    Args:
        values: Key of the Secret → value in bytes.
        context: Where it may be opened.
        recipients: Sealing keys that may open it, 1 to 16.
    """
    info = context.to_bytes()
    data_key = os.urandom(_DATA_KEY_BYTES)
    nonce = os.urandom(_NONCE_BYTES)
    plaintext = canonical_json({key: _encode(value) for key, value in values.items()})
    return SealedValues(
        keys=tuple(
            WrappedKey(
                recipient=key_fingerprint(recipient), key=_encode(_SUITE.encrypt(data_key, recipient, info=info))
            )
            for recipient in recipients
        ),
        nonce=_encode(nonce),
        ciphertext=_encode(AESGCM(data_key).encrypt(nonce, plaintext, info)),
    )


def unseal(sealed: object, context: SealContext, keys: Sequence[X25519PrivateKey]) -> dict[str, bytes]:
    """
    Open sealed values.

    Args:
        sealed: The parsed JSON of a `sealedData` field, from anybody.
        context: Where the Secret that carries it stands.
        keys: The agent's sealing keys, current first, then those kept for rollbacks.
    Returns: Key of the Secret → value in bytes.
    Raises: SealInvalid: malformed, sealed to other keys, moved from elsewhere, or tampered with.
    """
    try:
        parsed = SealedValues.model_validate(sealed)
    except ValidationError:
        raise SealInvalid("sealedData is malformed") from None
    mine = {key_fingerprint(key.public_key()): key for key in keys}
    wrapped = next((entry for entry in parsed.keys if entry.recipient in mine), None)
    if wrapped is None:
        wanted = ", ".join(entry.recipient for entry in parsed.keys)
        raise SealInvalid(f"it is sealed to {wanted}; this agent's key is {', '.join(mine) or 'missing'}")
    info = context.to_bytes()
    try:
        data_key = _SUITE.decrypt(_decode(wrapped.key), mine[wrapped.recipient], info=info)
        plaintext = AESGCM(data_key).decrypt(_decode(parsed.nonce), _decode(parsed.ciphertext), info)
        values = json.loads(plaintext)
        return {str(key): _decode(value) for key, value in values.items()}
    except (InvalidTag, ValueError, AttributeError, TypeError):
        # One message for every cause: which check failed helps only an attacker.
        raise SealInvalid("it was made for another Secret or environment, or changed on the way") from None


def _encode(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("no base64") from error
