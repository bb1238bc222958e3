"""
Rejoin: how an agent whose certificate lapsed proves that it holds the certificate's key.

It signs the relay's challenge together with its new certificate signing request, so that nobody else's request can ride
on its proof. Both sides must agree on these bytes. No I/O here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

_CONTEXT = b"fairlead rejoin v1\0"
WINDOW_SECONDS = 90 * 86_400.0
"""How long after its certificate's end an agent may rejoin by itself; later a person approves it."""


def proof_content(nonce: str, csr_pem: str) -> bytes:
    """
    Return what is signed.

    Args:
        nonce: The challenge, 64 hex digits.
        csr_pem: The new request.
    Raises: ValueError: no request, or no nonce.
    """
    request = x509.load_pem_x509_csr(csr_pem.encode()).public_bytes(serialization.Encoding.DER)
    return _CONTEXT + bytes.fromhex(nonce) + hashlib.sha256(request).digest()


def sign_proof(key: ec.EllipticCurvePrivateKey, nonce: str, csr_pem: str) -> str:
    """Return the base64 signature for a `rejoin`. Raises: ValueError: no request, or no nonce."""
    return base64.b64encode(key.sign(proof_content(nonce, csr_pem), ec.ECDSA(hashes.SHA256()))).decode()


def is_proof(key: PublicKeyTypes, nonce: str, csr_pem: str, signature: str) -> bool:
    """Tell whether a signature is the key holder's over this challenge and request; never raises for bad input."""
    try:
        content, raw = proof_content(nonce, csr_pem), base64.b64decode(signature, validate=True)
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(raw, content, ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(raw, content)
        else:
            return False
    except (InvalidSignature, ValueError, binascii.Error):
        return False
    return True
