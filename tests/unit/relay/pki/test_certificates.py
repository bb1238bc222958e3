"""What all certificates of the relay have in common."""

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fairlead_relay.pki.certificates import (
    BACKDATE,
    MADE_AT,
    certificate_builder,
    certificate_pem,
    common_name,
    counts_as_made,
    from_epoch,
    host_name,
    issued_by,
    key_pem,
    key_usage,
    made_at,
)
from fairlead_shared.identity import issued_at

NOW = from_epoch(1_800_000_000.9)


def made(life: dt.timedelta) -> x509.Certificate:
    """Make a certificate that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = certificate_builder(common_name("x"), common_name("y"), key.public_key(), NOW, life)
    return builder.sign(key, hashes.SHA256())


def test_a_certificate_is_valid_before_it_was_made_and_says_when_that_was() -> None:
    """Clocks differ by minutes; lives of seconds are measured from the making all the same."""
    for life in (dt.timedelta(seconds=4), dt.timedelta(hours=24)):
        certificate = made(life)
        assert certificate.not_valid_before_utc == NOW - BACKDATE
        assert certificate.not_valid_after_utc - NOW == life
        assert issued_at(certificate) == NOW.timestamp() == 1_800_000_000.0


def test_a_certificate_may_count_as_made_later_than_its_life_begins() -> None:
    """The order in which an agent's certificates were made is not that of a clock which went back."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = certificate_builder(common_name("x"), common_name("y"), key.public_key(), NOW, dt.timedelta(hours=24))
    assert made_at(builder.sign(key, hashes.SHA256())) == NOW.timestamp()
    later = builder.add_extension(counts_as_made(NOW.timestamp() + 86_400), critical=False)
    assert made_at(later.sign(key, hashes.SHA256())) == NOW.timestamp() + 86_400
    for content in (b"", b"\x04\x08", b"\x04\x07" + bytes(7), b"\x04\x08" + bytes(9)):
        strange = builder.add_extension(x509.UnrecognizedExtension(MADE_AT, content), critical=False)
        with pytest.raises(ValueError, match="holds no time"):
            made_at(strange.sign(key, hashes.SHA256()))


def test_names_of_hosts_are_dns_names_or_addresses() -> None:
    """As they are dialled."""
    assert host_name("relay.example.com") == x509.DNSName("relay.example.com")
    assert isinstance(host_name("::1"), x509.IPAddress)


def test_what_is_written_is_pem_and_what_points_at_an_issuer_names_its_key() -> None:
    """OpenSSL reads both."""
    certificate = made(dt.timedelta(hours=1))
    assert x509.load_pem_x509_certificate(certificate_pem(certificate)) == certificate
    subject = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert issued_by(certificate).key_identifier == subject.digest
    key = ec.generate_private_key(ec.SECP256R1())
    serialization.load_pem_private_key(key_pem(key), None)
    assert key_usage(signs_certificates=True).key_cert_sign
    assert not key_usage(signs_certificates=False).key_cert_sign
