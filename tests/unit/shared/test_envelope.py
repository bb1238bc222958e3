"""DSSE envelopes, with securesystemslib as the oracle."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.dsse import Envelope as OracleEnvelope
from securesystemslib.signer._crypto_signer import CryptoSigner
from securesystemslib.signer._key import SSlibKey

from fairlead_shared.envelope import Envelope, Signature, pre_authentication_encoding, sign, verify
from fairlead_shared.errors import EnvelopeInvalid, SignatureInsufficient

TYPE = "application/vnd.test+json"
ALICE, BOB, MALLORY = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2, 3))
TRUSTED = {"alice": ALICE.public_key(), "bob": BOB.public_key()}


def test_pre_authentication_encoding_is_the_specified_one() -> None:
    """The example of the DSSE specification."""
    assert pre_authentication_encoding("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_oracle_accepts_our_envelope() -> None:
    """securesystemslib verifies what we sign."""
    envelope = sign(TYPE, b"payload", ALICE)
    oracle = OracleEnvelope.from_dict(envelope.model_dump(by_alias=True, mode="json"))
    key = SSlibKey.from_crypto(ALICE.public_key(), keyid=envelope.signatures[0].keyid)
    assert set(oracle.verify([key], threshold=1)) == {key.keyid}


def test_we_accept_the_oracles_envelope() -> None:
    """We verify what securesystemslib signs."""
    oracle = OracleEnvelope(b"payload", TYPE, {})
    oracle.sign(CryptoSigner(ALICE))
    envelope = Envelope.model_validate(oracle.to_dict())
    assert verify(envelope, TYPE, TRUSTED, 1) == (b"payload", ("alice",))


def test_threshold_counts_distinct_trusted_keys() -> None:
    """Two signatures of one key, one key under two names, and a stranger's signature are not two signers."""
    assert verify(sign(TYPE, b"p", ALICE, BOB), TYPE, TRUSTED, 2)[1] == ("alice", "bob")
    for keys in ((ALICE, ALICE), (ALICE, MALLORY), (MALLORY,), ()):
        with pytest.raises(SignatureInsufficient):
            verify(sign(TYPE, b"p", *keys), TYPE, TRUSTED, 2)
    same_key_twice = {"alice": ALICE.public_key(), "alias": ALICE.public_key()}
    with pytest.raises(SignatureInsufficient, match="1 of 2"):
        verify(sign(TYPE, b"p", ALICE), TYPE, same_key_twice, 2)


def test_changed_payload_type_or_signature_fails() -> None:
    """A signature covers the payload and its type."""
    good = sign(TYPE, b"p", ALICE)
    changed = good.model_copy(update={"payload": base64.b64encode(b"q").decode()})
    with pytest.raises(SignatureInsufficient):
        verify(changed, TYPE, TRUSTED, 1)
    with pytest.raises(EnvelopeInvalid, match="payload type"):
        verify(good, "application/other", TRUSTED, 1)
    retyped = good.model_copy(update={"payload_type": "application/other"})
    with pytest.raises(SignatureInsufficient):
        verify(retyped, "application/other", TRUSTED, 1)


@pytest.mark.parametrize("text", ["%", "YQ=", "YQ==\n", "é"])
def test_malformed_base64_is_refused(text: str) -> None:
    """Payload and signatures are strict standard base64."""
    good = sign(TYPE, b"p", ALICE)
    with pytest.raises(EnvelopeInvalid):
        verify(good.model_copy(update={"payload": text}), TYPE, TRUSTED, 1)
    with pytest.raises(EnvelopeInvalid):
        verify(good.model_copy(update={"signatures": (Signature(sig=text),)}), TYPE, TRUSTED, 1)


def test_threshold_of_zero_is_refused() -> None:
    """A configuration slip must not turn signatures off."""
    with pytest.raises(EnvelopeInvalid):
        verify(sign(TYPE, b"p"), TYPE, TRUSTED, 0)
