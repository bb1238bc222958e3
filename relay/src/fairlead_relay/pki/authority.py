"""
The certificate authority: the certificates of servers and agents, and which of them it takes for its own.

Made on the first start, in one step, with mode 0600. The root signs only issuing CAs, so that a change of the issuing
key needs no new enrolment. While the CA is changed there are two generations of both: the newer issues, both count.
This module knows certificates; it opens no sockets and asks no store, and its files are `generations`' business.

Certificate lives: root 20 years, issuing CA 5 years, servers 30 days, agents 24 hours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID

from fairlead_relay.errors import DataDirectoryUnusable, SigningRequestInvalid
from fairlead_relay.pki.certificates import (
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
from fairlead_relay.pki.generations import (
    Generation,
    create_first,
    read_generations,
    read_issuing_key,
    read_signer,
    stamp,
)
from fairlead_shared.errors import NameInvalid
from fairlead_shared.identity import AgentIdentity, certificate_fingerprint

Clock = Callable[[], float]
"""Seconds since the epoch."""

AGENT_LIFE = timedelta(hours=24)
SERVER_LIFE = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """An agent's new certificate."""

    chain_pem: str
    """Leaf first, then the issuing CA."""
    serial: str
    """Lower-case hex."""
    issuer: str
    """Fingerprint of the issuing CA, lower-case hex."""
    made_at: float
    """When it counts as made, seconds since the epoch, to the second; later than its clock said if that went back."""
    not_after: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class AgentCertificate:
    """A certificate that names an agent. Who signed it is not yet known."""

    identity: AgentIdentity
    serial: str
    """Lower-case hex."""
    made_at: float
    """When it counts as made, seconds since the epoch, to the second."""
    expires_at: float
    """Seconds since the epoch."""
    content: bytes
    """DER: every connection keeps one, and parsed it takes several times as much."""

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate, parsed anew."""
        return x509.load_der_x509_certificate(self.content)


class CertificateAuthority:
    """
    Roots and issuing CAs, with the relay's statement signer beside them.

    Args:
        folder: Where their files are.
        clock: Seconds since the epoch.
        agent_life: Of agents' certificates.

    Raises: AuthorityDamaged: a file is missing, unreadable or does not belong to the others.

    """

    def __init__(self, folder: Path, clock: Clock, agent_life: timedelta = AGENT_LIFE) -> None:
        self._folder = folder
        self._clock = clock
        self._agent_life = agent_life
        self.signer = read_signer(folder)
        self._read()

    def _read(self) -> None:
        read = stamp(self._folder)
        generations = read_generations(self._folder)
        self._issuing_key = read_issuing_key(generations[-1])
        self.generations: tuple[Generation, ...] = generations
        self._stamp = read

    @classmethod
    def open(cls, folder: Path, clock: Clock, agent_life: timedelta = AGENT_LIFE) -> CertificateAuthority:
        """
        Load the authority, made first if there is none.

        Args:
            folder: Where its files are or will be.
            clock: Seconds since the epoch.
            agent_life: Of agents' certificates.

        Raises:
            DataDirectoryUnusable: the folder cannot be made or read.
            AuthorityDamaged: a file is missing, unreadable or does not belong to the others.

        """
        try:
            if not folder.exists():
                create_first(folder, from_epoch(clock()))
        except OSError as error:
            raise DataDirectoryUnusable(str(folder), error.strerror or str(error)) from error
        return cls(folder, clock, agent_life)

    def refresh(self) -> bool:
        """
        Take up what `fairlead-relay ca rotate` or `ca finish` changed on disk.

        Returns: Whether anything did.
        Raises: AuthorityDamaged: what is there cannot be used; what was read before stays in force.
        """
        if stamp(self._folder) == self._stamp:
            return False
        self._read()
        return True

    @property
    def root(self) -> x509.Certificate:
        """The root in force."""
        return self.generations[-1].root

    @property
    def issuing(self) -> x509.Certificate:
        """The issuing CA in force."""
        return self.generations[-1].issuing

    @property
    def issuer(self) -> str:
        """Fingerprint of the issuing CA in force, lower-case hex."""
        return self.generations[-1].issuer

    @property
    def root_pem(self) -> str:
        """The root in force, which agents pin."""
        return certificate_pem(self.root).decode()

    def root_pem_of(self, fingerprint: str) -> str:
        """Return the root with that fingerprint, if it still counts; else the one in force."""
        for generation in self.generations:
            if certificate_fingerprint(generation.root) == fingerprint:
                return certificate_pem(generation.root).decode()
        return self.root_pem

    @property
    def trust_pem(self) -> str:
        """Roots and issuing CAs: what a client certificate may end in; one sent without its chain passes too."""
        every = dict.fromkeys(
            certificate_pem(one) for generation in self.generations for one in (generation.root, generation.issuing)
        )
        return b"".join(every).decode()

    @property
    def root_fingerprint(self) -> str:
        """Hex SHA-256 of the root in force, as in enrolment tokens."""
        return certificate_fingerprint(self.root)

    def issuer_of(self, certificate: x509.Certificate) -> str | None:
        """Return the fingerprint of the issuing CA that signed a certificate; None if it is none that counts."""
        return next((one.issuer for one in reversed(self.generations) if one.has_issued(certificate)), None)

    def issue_server(self, names: Sequence[str]) -> bytes:
        """
        Make a key and a server certificate for some host names and addresses.

        Args:
            names: DNS names and IP addresses, at least one.

        Returns: PEM of the key and the chain, as `SSLContext.load_cert_chain` reads them.

        """
        key = ec.generate_private_key(ec.SECP256R1())
        now = from_epoch(self._clock())
        cross = self.generations[-1].cross
        certificate = (
            certificate_builder(common_name(names[0][:64]), self.issuing.subject, key.public_key(), now, SERVER_LIFE)
            .add_extension(x509.SubjectAlternativeName([host_name(name) for name in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(issued_by(self.issuing), critical=False)
            .sign(self._issuing_key, hashes.SHA256())
        )
        chain = [certificate, self.issuing, *([] if cross is None else [cross])]
        return key_pem(key) + b"".join(map(certificate_pem, chain))

    def issue_agent(self, csr_pem: str, identity: AgentIdentity, newer_than: float = 0.0) -> IssuedCertificate:
        """
        Make an agent's client certificate.

        Only the key is taken from the request: what the certificate says is the relay's to decide.

        Args:
            csr_pem: PKCS #10 request, from the agent.
            identity: Whom the certificate shall speak for.
            newer_than: When the newest certificate of the agent was made, seconds since the epoch. This one counts as
                made later even if the clock went back since: else it would be taken for one that was replaced.

        Raises: SigningRequestInvalid: no request, a bad signature, or a key that is too weak or of an unknown kind.

        """
        csr = read_request(csr_pem)
        now = from_epoch(self._clock())
        counts_from = max(now.timestamp(), math.floor(newer_than) + 1.0)
        builder = (
            certificate_builder(
                common_name(identity.agent), self.issuing.subject, _strong_key(csr), now, self._agent_life
            )
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity.uri)]),
                critical=False,
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(issued_by(self.issuing), critical=False)
        )
        if counts_from != now.timestamp():
            builder = builder.add_extension(counts_as_made(counts_from), critical=False)
        certificate = builder.sign(self._issuing_key, hashes.SHA256())
        return IssuedCertificate(
            chain_pem=(certificate_pem(certificate) + certificate_pem(self.issuing)).decode(),
            serial=f"{certificate.serial_number:x}",
            issuer=self.issuer,
            made_at=counts_from,
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


def read_agent_certificate(content: bytes | str) -> AgentCertificate | None:
    """
    Read whom a certificate speaks for.

    Args:
        content: DER as TLS has it, or PEM as a frame has it, leaf first.

    Returns: None when it is no certificate, or names no agent.

    """
    try:
        if isinstance(content, bytes):
            certificate = x509.load_der_x509_certificate(content)
        else:
            certificate = x509.load_pem_x509_certificates(content.encode())[0]
        return AgentCertificate(
            AgentIdentity.from_certificate(certificate),
            f"{certificate.serial_number:x}",
            made_at(certificate),
            certificate.not_valid_after_utc.timestamp(),
            certificate.public_bytes(serialization.Encoding.DER),
        )
    except (NameInvalid, ValueError):
        return None
