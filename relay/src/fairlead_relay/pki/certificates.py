"""
How the relay's certificates are made: names, lives and extensions, all in one place. Knows no files and no authority.

Keys are ECDSA P-256: every TLS library takes them, and a signature costs a tenth of RSA's.
"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

from fairlead_shared.identity import CLOCK_SKEW_SECONDS, issued_at

BACKDATE = timedelta(seconds=CLOCK_SKEW_SECONDS)
"""Certificates are valid a little before they are made: clocks of clusters differ by minutes."""
MADE_AT = x509.ObjectIdentifier("2.25.147695788786459651339109680222434167313")
"""
Extension: when an agent's certificate counts as made, where that is not when its life begins, since the relay's clock
went back. An OCTET STRING with seconds since the epoch in eight bytes. Source: ITU-T X.667, an OID from a UUID.
"""
_MADE_AT_HEAD = b"\x04\x08"
"""DER of an OCTET STRING of eight bytes."""


def certificate_builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey,
    now: datetime,
    life: timedelta,
) -> x509.CertificateBuilder:
    """Return what every certificate has: names, key, a random serial, and a life that begins a little earlier."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """Return the usage of a CA's key, or of any other's."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def counts_as_made(at: float) -> x509.UnrecognizedExtension:
    """Return the extension MADE_AT, for seconds since the epoch."""
    return x509.UnrecognizedExtension(MADE_AT, _MADE_AT_HEAD + int(at).to_bytes(8, "big"))


def made_at(certificate: x509.Certificate) -> float:
    """
    Return when a certificate counts as made, seconds since the epoch: orders the certificates of one agent.

    Raises: ValueError: an extension that no relay makes.
    """
    try:
        extension = certificate.extensions.get_extension_for_oid(MADE_AT)
    except x509.ExtensionNotFound:
        return issued_at(certificate)
    value = extension.value.public_bytes()
    if not value.startswith(_MADE_AT_HEAD) or len(value) != len(_MADE_AT_HEAD) + 8:
        raise ValueError(f"extension {MADE_AT.dotted_string} holds no time")
    return float(int.from_bytes(value[len(_MADE_AT_HEAD) :], "big"))


def issued_by(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Return the extension that points at the issuer's key."""
    subject_key = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject_key)


def common_name(text: str) -> x509.Name:
    """Return a name of one part."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def host_name(name: str) -> x509.GeneralName:
    """Return a DNS name or an IP address."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def from_epoch(seconds: float) -> datetime:
    """Return a time to the second, as certificates have them."""
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=0)


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate's PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    """Return a private key's PEM, which is a secret."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
