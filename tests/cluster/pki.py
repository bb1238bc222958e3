"""
Keys and certificates of one cluster: as many authorities as a well-run cluster has, all of them thrown away with it.

ECDSA P-256, since twenty keys must not cost a second. Must not: keep a certificate authority's key anywhere but in the
cluster's own directory.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_LIFE = dt.timedelta(days=365)
"""Longer than any test or demo cluster is kept."""
_SKEW = dt.timedelta(minutes=5)
"""Certificates are valid a little before now, for clocks that are set back while a cluster starts."""


@dataclass(frozen=True, kw_only=True)
class KeyPair:
    """Files of a private key and its certificate, in PEM."""

    key: Path
    """Private key, mode 0600."""
    certificate: Path
    """Certificate."""


class Authority:
    """A certificate authority with its files in one directory."""

    def __init__(self, directory: Path, name: str) -> None:
        """
        Make a fresh authority.

        Args:
            directory: Where its files go.
            name: Common name, and stem of its files.
        """
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _certificate(self._name, self._name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        usage = _key_usage(signs_certificates=True)
        signed = builder.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())
        self.files = _write(directory, name, self._key, signed)

    def issue(
        self,
        stem: str,
        common_name: str,
        *,
        groups: Sequence[str] = (),
        names: Sequence[str] = (),
        addresses: Sequence[str] = (),
    ) -> KeyPair:
        """
        Issue a certificate that serves and dials.

        Args:
            stem: Stem of the two files.
            common_name: User name, to Kubernetes.
            groups: Groups, to Kubernetes.
            names: DNS names it may serve.
            addresses: IP addresses it may serve.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
            + [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
        )
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = _certificate(subject, self._name, key.public_key())
        alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        alternatives += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        if alternatives:
            usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        builder = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        return _write(self._directory, stem, key, builder.sign(self._key, hashes.SHA256()))


def service_account_key(directory: Path) -> tuple[Path, Path]:
    """
    Make the key that signs ServiceAccount tokens.

    Returns: Files of the private and the public key.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    public = directory / "service-account.pub"
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return _write_key(directory / "service-account.key", key), public


def _certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write(directory: Path, stem: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> KeyPair:
    path = directory / f"{stem}.crt"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return KeyPair(key=_write_key(directory / f"{stem}.key", key), certificate=path)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path
