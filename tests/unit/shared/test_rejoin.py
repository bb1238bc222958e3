"""The proof of a lapsed certificate's key: good for one key, one challenge and one request."""

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519

from fairlead_shared.rejoin import is_proof, proof_content, sign_proof

NONCE = "ab" * 32


def request(key: ec.EllipticCurvePrivateKey) -> str:
    """Return a certificate signing request."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


OLD, NEW = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
CSR = request(NEW)


def test_a_proof_is_good_for_its_key_challenge_and_request_alone() -> None:
    """Nobody else's request can ride on it, and it cannot be used on another connection."""
    proof = sign_proof(OLD, NONCE, CSR)
    assert is_proof(OLD.public_key(), NONCE, CSR, proof)
    assert not is_proof(NEW.public_key(), NONCE, CSR, proof)
    assert not is_proof(OLD.public_key(), "cd" * 32, CSR, proof)
    assert not is_proof(OLD.public_key(), NONCE, request(NEW), proof)


def test_what_is_no_proof_is_none() -> None:
    """From anybody, so anything; never an exception."""
    for nonce, csr, signature in (
        (NONCE, CSR, "no base64!"),
        (NONCE, CSR, ""),
        (NONCE, "no request", ""),
        ("no hex", CSR, "AA=="),
    ):
        assert not is_proof(OLD.public_key(), nonce, csr, signature)
    assert not is_proof(x25519.X25519PrivateKey.generate().public_key(), NONCE, CSR, "AA==")


def test_an_ed25519_key_can_prove_itself_too() -> None:
    """The relay signs such keys as well."""
    key = ed25519.Ed25519PrivateKey.generate()
    signature = base64.b64encode(key.sign(proof_content(NONCE, CSR))).decode()
    assert is_proof(key.public_key(), NONCE, CSR, signature)


def test_signing_nonsense_is_an_error_of_the_caller() -> None:
    """It made the request itself."""
    with pytest.raises(ValueError, match=r"PEM|load"):
        sign_proof(OLD, NONCE, "no request")
