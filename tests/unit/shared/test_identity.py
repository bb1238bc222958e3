"""Names, identities and fingerprints."""

from __future__ import annotations

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519

from fairlead_shared.errors import NameInvalid
from fairlead_shared.identity import (
    CLOCK_SKEW_SECONDS,
    AgentIdentity,
    certificate_fingerprint,
    check_id,
    check_name,
    identity_fingerprint,
    issued_at,
    key_fingerprint,
    public_key_sha256,
)


def certificate(*uris: str) -> x509.Certificate:
    key = ed25519.Ed25519PrivateKey.from_private_bytes(b"1" * 32)
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=1))
    )
    if uris:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
        builder = builder.add_extension(names, critical=True)
    return builder.sign(key, None)


def test_identity_round_trips_through_a_certificate() -> None:
    """The SAN URI names organization, cluster and agent."""
    identity = AgentIdentity.from_certificate(certificate("fairlead://acme/east/default"))
    assert str(identity) == "acme/east/default"
    assert identity.uri == "fairlead://acme/east/default"


@pytest.mark.parametrize(
    "uri",
    [
        "spiffe://acme/east/a",
        "fairlead://acme/east",
        "fairlead://acme/east/a/b",
        "fairlead://acme/../a",
        "fairlead:acme",
    ],
)
def test_other_uris_are_no_identity(uri: str) -> None:
    """Another scheme, another shape, or a name that breaks the rule."""
    with pytest.raises(NameInvalid):
        AgentIdentity.parse(uri)


def test_certificate_must_name_exactly_one_agent() -> None:
    """No SAN, or two URIs: no identity."""
    for uris in ((), ("fairlead://a/b/c", "fairlead://a/b/d")):
        with pytest.raises(NameInvalid, match="certificate"):
            AgentIdentity.from_certificate(certificate(*uris))


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a.b", "a" * 64, "a\n"])
def test_bad_names_are_refused(name: str) -> None:
    """A name is a DNS label."""
    with pytest.raises(NameInvalid, match="environment"):
        check_name("environment", name)


def test_good_names_and_ids_pass() -> None:
    """The longest and the shortest name, and a ULID."""
    assert check_name("x", "a" * 63) == "a" * 63
    assert check_name("x", "7") == "7"
    assert check_id("x", "01j00000000000000000000000")
    with pytest.raises(NameInvalid):
        check_id("deployment", "01J00000000000000000000000")


def test_fingerprints_have_their_familiar_forms() -> None:
    """Hex of the DER for certificates, ssh's form for keys."""
    assert len(certificate_fingerprint(certificate())) == 64
    key = ed25519.Ed25519PrivateKey.from_private_bytes(b"1" * 32).public_key()
    assert key_fingerprint(key).startswith("SHA256:")
    assert len(key_fingerprint(key)) == len("SHA256:") + 43


def test_an_identity_key_has_one_fingerprint_on_both_sides() -> None:
    """The relay stores the hash in hex, people compare its base64."""
    key = ed25519.Ed25519PrivateKey.from_private_bytes(b"1" * 32).public_key()
    sha256 = public_key_sha256(key)
    assert len(sha256) == 64
    assert identity_fingerprint(sha256).startswith("SHA256:")
    assert not identity_fingerprint(sha256).endswith("=")


def test_a_certificates_age_is_counted_from_its_making() -> None:
    """Its validity begins five minutes earlier, unless it lives for less."""
    made = certificate("fairlead://acme/east/default")
    assert issued_at(made) == made.not_valid_before_utc.timestamp() + CLOCK_SKEW_SECONDS
