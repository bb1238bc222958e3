"""
The certificate authority: a root, an issuing CA below it, and the certificates of servers and agents.

Made on the first start, in one step, with mode 0600. The root signs only issuing CAs, so that a change of the issuing
key needs no new enrolment. Keys are ECDSA P-256: every TLS library takes them, and a signature costs a tenth of RSA's.
This module knows certificates and files; it opens no sockets and asks no store.

Certificate lives: root 20 years, issuing CA 5 years, servers 30 days, agents 24 hours.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fairlead_relay.errors import AuthorityDamaged, DataDirectoryUnusable, SigningRequestInvalid
from fairlead_relay.pki.private_files import create_folder
from fairlead_shared.errors import NameInvalid
from fairlead_shared.identity import AgentIdentity, certificate_fingerprint

Clock = Callable[[], float]
"""Seconds since the epoch."""

AGENT_LIFE = timedelta(hours=24)
SERVER_LIFE = timedelta(days=30)
_ROOT_LIFE = timedelta(days=20 * 365)
_ISSUING_LIFE = timedelta(days=5 * 365)
BACKDATE = timedelta(minutes=5)
"""Certificates are valid a little before they are made: clocks of clusters differ by minutes."""


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """An agent's new certificate."""

    chain_pem: str
    """Leaf first, then the issuing CA."""
    serial: str
    """Lower-case hex."""
    not_after: float
    """Seconds since the epoch."""


class CertificateAuthority:
    """
    Root and issuing CA, with the relay's statement signer beside them.

    Args:
        root: The root certificate; its key stays on disk.
        issuing: The issuing CA's certificate.
        issuing_key: Its key.
        signer: Ed25519 key that signs deployment statements.
        clock: Seconds since the epoch.

    """

    def __init__(
        self,
        root: x509.Certificate,
        issuing: x509.Certificate,
        issuing_key: ec.EllipticCurvePrivateKey,
        signer: ed25519.Ed25519PrivateKey,
        clock: Clock,
    ) -> None:
        self.root = root
        self.issuing = issuing
        self.signer = signer
        self._issuing_key = issuing_key
        self._clock = clock

    @classmethod
    def open(cls, folder: Path, clock: Clock) -> CertificateAuthority:
        """
        Load the authority, made first if there is none.

        Args:
            folder: Where its five files are or will be.
            clock: Seconds since the epoch.

        Raises:
            DataDirectoryUnusable: the folder cannot be made or read.
            AuthorityDamaged: a file is missing, unreadable or does not belong to the others.

        """
        try:
            if not folder.exists():
                create_folder(folder, _new_files(_from_epoch(clock())))
        except OSError as error:
            raise DataDirectoryUnusable(str(folder), error.strerror or str(error)) from error
        return cls.load(folder, clock)

    @classmethod
    def load(cls, folder: Path, clock: Clock) -> CertificateAuthority:
        """
        Load an authority that exists.

        Raises: AuthorityDamaged: a file is missing, unreadable or does not belong to the others.
        """
        try:
            root = x509.load_pem_x509_certificate((folder / "root.pem").read_bytes())
            issuing = x509.load_pem_x509_certificate((folder / "issuing.pem").read_bytes())
            issuing_key = serialization.load_pem_private_key((folder / "issuing.key").read_bytes(), None)
            signer = serialization.load_pem_private_key((folder / "signer.key").read_bytes(), None)
            issuing.verify_directly_issued_by(root)
        except OSError as error:
            raise AuthorityDamaged(str(folder), f"{error.filename}: {error.strerror}") from error
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
            raise AuthorityDamaged(str(folder), "a file is no PEM, or was not made with the others") from error
        if not isinstance(issuing_key, ec.EllipticCurvePrivateKey) or issuing_key.public_key() != issuing.public_key():
            raise AuthorityDamaged(str(folder), "issuing.key is not the key of issuing.pem")
        if not isinstance(signer, ed25519.Ed25519PrivateKey):
            raise AuthorityDamaged(str(folder), "signer.key is no Ed25519 key")
        return cls(root, issuing, issuing_key, signer, clock)

    @property
    def root_pem(self) -> str:
        """The root certificate, which agents pin."""
        return _pem(self.root).decode()

    @property
    def trust_pem(self) -> str:
        """Root and issuing CA: what a client certificate may end in, so that one sent without its chain passes too."""
        return (_pem(self.root) + _pem(self.issuing)).decode()

    @property
    def root_fingerprint(self) -> str:
        """Hex SHA-256 of the root, as in enrolment tokens."""
        return certificate_fingerprint(self.root)

    def issue_server(self, names: Sequence[str]) -> bytes:
        """
        Make a key and a server certificate for some host names and addresses.

        Args:
            names: DNS names and IP addresses, at least one.

        Returns: PEM of the key and the chain, as `SSLContext.load_cert_chain` reads them.

        """
        key = ec.generate_private_key(ec.SECP256R1())
        now = _from_epoch(self._clock())
        certificate = (
            _builder(_name(names[0][:64]), self.issuing.subject, key.public_key(), now, SERVER_LIFE)
            .add_extension(x509.SubjectAlternativeName([_host(name) for name in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(_issued_by(self.issuing), critical=False)
            .sign(self._issuing_key, hashes.SHA256())
        )
        return _key_pem(key) + _pem(certificate) + _pem(self.issuing)

    def issue_agent(self, csr_pem: str, identity: AgentIdentity) -> IssuedCertificate:
        """
        Make an agent's client certificate.

        Only the key is taken from the request: what the certificate says is the relay's to decide.

        Args:
            csr_pem: PKCS #10 request, from the agent.
            identity: Whom the certificate shall speak for.

        Raises: SigningRequestInvalid: no request, a bad signature, or a key that is too weak or of an unknown kind.

        """
        csr = read_request(csr_pem)
        now = _from_epoch(self._clock())
        certificate = (
            _builder(_name(identity.agent), self.issuing.subject, _strong_key(csr), now, AGENT_LIFE)
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity.uri)]),
                critical=False,
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(_issued_by(self.issuing), critical=False)
            .sign(self._issuing_key, hashes.SHA256())
        )
        return IssuedCertificate(
            chain_pem=(_pem(certificate) + _pem(self.issuing)).decode(),
            serial=f"{certificate.serial_number:x}",
            not_after=certificate.not_valid_after_utc.timestamp(),
        )


def read_request(csr_pem: str) -> x509.CertificateSigningRequest:
    """
    Parse a certificate signing request and check that its sender holds the key.

    Raises: SigningRequestInvalid: no request, or a signature by another key.
    """
    try:
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        valid = csr.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SigningRequestInvalid("it is no PEM certificate signing request of a known kind") from error
    if not valid:
        raise SigningRequestInvalid("its signature is not by its own key")
    return csr


def _strong_key(csr: x509.CertificateSigningRequest) -> ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey:
    key = csr.public_key()
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.key_size >= ec.SECP256R1.key_size:
        return key
    raise SigningRequestInvalid("its key must be Ed25519 or ECDSA on P-256 or a larger curve")


def request_key(csr_pem: str) -> bytes:
    """
    Return the DER form of the public key in a request, which tells a repeated enrolment from a stolen token.

    Raises: SigningRequestInvalid: no request, or a signature by another key.
    """
    return (
        read_request(csr_pem)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def identity_of(certificate_der: bytes) -> AgentIdentity | None:
    """Read whom a verified client certificate speaks for; None when it names no agent."""
    try:
        return AgentIdentity.from_certificate(x509.load_der_x509_certificate(certificate_der))
    except (NameInvalid, ValueError):
        return None


def _new_files(now: datetime) -> dict[str, bytes]:
    root_key, issuing_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root_name = _name("Fairlead root CA")
    root = (
        _builder(root_name, root_name, root_key.public_key(), now, _ROOT_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    issuing = (
        _builder(_name("Fairlead issuing CA"), root_name, issuing_key.public_key(), now, _ISSUING_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(_issued_by(root), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    return {
        "root.key": _key_pem(root_key),
        "root.pem": _pem(root),
        "issuing.key": _key_pem(issuing_key),
        "issuing.pem": _pem(issuing),
        "signer.key": _key_pem(ed25519.Ed25519PrivateKey.generate()),
    }


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey,
    now: datetime,
    life: timedelta,
) -> x509.CertificateBuilder:
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


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
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


def _issued_by(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    subject_key = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject_key)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _from_epoch(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=0)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
