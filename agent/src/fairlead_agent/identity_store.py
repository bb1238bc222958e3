"""
The agent's identity: its keys and certificate, kept in one Secret of its own namespace.

`fairlead-agent-identity` holds the TLS key, the sealing key (a separate one: a certificate is renewed daily, sealed
values live as long as their bundle), the certificate chain, the relay's root and its statement signer. Keys are made
here and stored before anything is sent; no private key leaves this process but into that Secret. Every write is
compare-and-set.
"""

from __future__ import annotations

import base64
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.x509.oid import NameOID

from fairlead_agent.errors import AlreadyExists, Conflict, IdentityInvalid
from fairlead_agent.ports import EnvironmentKey, StateKind, StatePort, Unseal
from fairlead_shared.errors import NameInvalid
from fairlead_shared.identity import AgentIdentity
from fairlead_shared.sealing import SealContext, unseal

SECRET_NAME: Final = "fairlead-agent-identity"  # noqa: S105  (the object's name)
_TLS_KEY, _SEALING_KEY, _CHAIN, _ROOT, _SIGNER = "tls.key", "sealing.key", "tls.crt", "root.crt", "relay-signer"
_NEXT_KEY: Final = "next.key"


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the relay issued, checked against the key it was asked for."""

    chain_pem: str
    """Leaf first, then the issuing CA."""
    root_pem: str
    leaf: x509.Certificate
    agent: AgentIdentity
    """Whom the leaf names."""

    @classmethod
    def read(cls, chain_pem: str, root_pem: str, key: ec.EllipticCurvePrivateKey) -> Certificate:
        """
        Check a certificate chain as the relay, or the Secret, has it.

        Raises: IdentityInvalid: malformed, for another key, or naming no agent.
        """
        try:
            leaf = x509.load_pem_x509_certificates(chain_pem.encode())[0]
            x509.load_pem_x509_certificate(root_pem.encode())
            agent = AgentIdentity.from_certificate(leaf)
        except NameInvalid as error:
            raise IdentityInvalid(f"the certificate names no agent: {error}") from None
        except ValueError:
            raise IdentityInvalid("the certificate or the root is no PEM certificate") from None
        if leaf.public_key() != key.public_key():
            raise IdentityInvalid("the certificate is for another key than this agent's")
        return cls(chain_pem, root_pem, leaf, agent)


@dataclass(frozen=True, slots=True)
class Identity:
    """The keys, and the certificate once enrolled. Its repr hides the keys."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)
    sealing_key: X25519PrivateKey = field(repr=False)
    certificate: Certificate | None = None
    relay_signer: Ed25519PublicKey | None = None
    """The relay's statement signing key, pinned at enrolment."""
    next_key: ec.EllipticCurvePrivateKey | None = field(default=None, repr=False)
    """The key to enrol anew with, while the present one still has a certificate that may be of use."""
    resource_version: str = ""

    @property
    def enrolment_key(self) -> ec.EllipticCurvePrivateKey:
        """The key to enrol with."""
        return self.next_key or self.key

    @property
    def sealing_public(self) -> str:
        """Base64 of the raw public sealing key, as frames carry it."""
        return base64.b64encode(self.sealing_key.public_key().public_bytes_raw()).decode()

    @property
    def relay_signer_public(self) -> str:
        """Base64 of the relay's raw signing key, empty before enrolment."""
        return "" if self.relay_signer is None else base64.b64encode(self.relay_signer.public_bytes_raw()).decode()


class IdentityStore:
    """
    The Secret, and the identity as last read or written.

    Args:
        state: The agent's own namespace.
    """

    def __init__(self, state: StatePort) -> None:
        self._state = state
        self._identity: Identity | None = None

    @property
    def current(self) -> Identity:
        """The identity after `open`."""
        if self._identity is None:
            raise IdentityInvalid("the identity was not read yet")
        return self._identity

    @property
    def certificate_ends(self) -> float:
        """When the certificate ends, seconds since the epoch; 0 while there is none."""
        held = None if self._identity is None else self._identity.certificate
        return 0.0 if held is None else held.leaf.not_valid_after_utc.timestamp()

    @property
    def agent(self) -> AgentIdentity:
        """Whom the certificate names. Raises: IdentityInvalid: there is none yet."""
        if self.current.certificate is None:
            raise IdentityInvalid("the agent has no certificate yet")
        return self.current.certificate.agent

    def unsealer(self, environment: EnvironmentKey) -> Unseal:
        """Return what opens an environment's sealed values with the key in force now."""
        keys = [self.current.sealing_key]

        def open_values(sealed: Mapping[str, Any], namespace: str, name: str) -> dict[str, bytes]:
            context = SealContext(
                environment.organization, environment.application, environment.environment, namespace, name
            )
            return unseal(sealed, context, keys)

        return open_values

    async def open(self) -> Identity:
        """
        Read the identity, or make its keys and store them.

        Raises: IdentityInvalid: the Secret is there and cannot be used. KubeError.
        """
        found = await self._state.read(StateKind.SECRET, SECRET_NAME)
        if found is None:
            fresh = Identity(key=new_key(), sealing_key=X25519PrivateKey.generate())
            try:
                found = await self._state.create(StateKind.SECRET, _render(fresh))
            except AlreadyExists:
                # Another process of this agent was faster: its keys are the agent's.
                found = await self._state.read(StateKind.SECRET, SECRET_NAME)
        if found is None:
            raise IdentityInvalid(f"Secret {SECRET_NAME} was deleted while it was read")
        self._identity = _parse(found)
        return self._identity

    async def find(self) -> Identity | None:
        """Read the identity and make nothing. Raises: IdentityInvalid, KubeError."""
        found = await self._state.read(StateKind.SECRET, SECRET_NAME)
        return None if found is None else _parse(found)

    async def prepare_enrolment(self) -> Identity:
        """
        Store the key to enrol with: a new one if the present one has a certificate, which may have been revoked.

        Raises: Conflict: another process changed the Secret. KubeError.
        """
        current = self.current
        if current.certificate is None or current.next_key is not None:
            return current
        return await self._replace(replace(current, next_key=new_key()))

    async def save_enrolled(self, chain_pem: str, root_pem: str, relay_signer: str) -> Identity:
        """
        Store what enrolment brought.

        Raises: IdentityInvalid: it does not fit the agent's key. Conflict: another process changed the Secret.
        KubeError.
        """
        current = self.current
        enrolled = replace(
            current,
            key=current.enrolment_key,
            next_key=None,
            certificate=Certificate.read(chain_pem, root_pem, current.enrolment_key),
            relay_signer=_signer(relay_signer),
        )
        return await self._replace(enrolled)

    async def save_renewed(self, key: ec.EllipticCurvePrivateKey, chain_pem: str, root_pem: str) -> Identity:
        """
        Store a renewed certificate with its new key, both at once, so that a crash leaves a pair that fits.

        Raises: IdentityInvalid: it does not fit the key, or names another agent. Conflict, KubeError.
        """
        certificate = Certificate.read(chain_pem, root_pem, key)
        held = self.current.certificate
        if held is not None and certificate.agent != held.agent:
            raise IdentityInvalid(f"the renewed certificate names {certificate.agent}, this agent is {held.agent}")
        return await self._replace(replace(self.current, key=key, certificate=certificate))

    async def _replace(self, identity: Identity) -> Identity:
        try:
            stored = await self._state.update(StateKind.SECRET, _render(identity))
        except Conflict:
            # The next try starts from what the other process wrote.
            await self.open()
            raise
        self._identity = replace(identity, resource_version=stored["metadata"]["resourceVersion"])
        return self._identity


def new_key() -> ec.EllipticCurvePrivateKey:
    """Make a TLS key: P-256, which every TLS library speaks and which signs fast."""
    return ec.generate_private_key(ec.SECP256R1())


def signing_request(key: ec.EllipticCurvePrivateKey) -> str:
    """Return a certificate signing request in PEM; its subject means nothing, the relay decides on the names."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fairlead-agent")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def client_context(root_pem: str, identity: Identity | None) -> ssl.SSLContext:
    """
    Return a TLS 1.3 context that trusts one root and, with an identity, presents its certificate.

    Args:
        root_pem: The relay's root.
        identity: None to connect without a certificate, for enrolment.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=root_pem)
    if identity is not None and identity.certificate is not None:
        _load_pair(context, identity.certificate.chain_pem, identity.key)
    return context


def _load_pair(context: ssl.SSLContext, chain_pem: str, key: ec.EllipticCurvePrivateKey) -> None:
    """Give a context its certificate. OpenSSL wants a file, so it gets one in memory that never touches a disk."""
    descriptor = os.memfd_create("fairlead-identity", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, _key_pem(key) + chain_pem.encode())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _render(identity: Identity) -> dict[str, Any]:
    content = {_TLS_KEY: _key_pem(identity.key), _SEALING_KEY: identity.sealing_key.private_bytes_raw()}
    if identity.certificate is not None:
        content[_CHAIN] = identity.certificate.chain_pem.encode()
        content[_ROOT] = identity.certificate.root_pem.encode()
    if identity.next_key is not None:
        content[_NEXT_KEY] = _key_pem(identity.next_key)
    if identity.relay_signer is not None:
        content[_SIGNER] = identity.relay_signer.public_bytes_raw()
    metadata = {"name": SECRET_NAME, "labels": {"fairlead.dev/state": "identity"}}
    if identity.resource_version:
        metadata["resourceVersion"] = identity.resource_version
    return {
        "metadata": metadata,
        "type": "fairlead.dev/agent-identity",
        "data": {name: base64.b64encode(value).decode() for name, value in content.items()},
    }


def _parse(secret: Mapping[str, Any]) -> Identity:
    try:
        content = {name: base64.b64decode(value) for name, value in (secret.get("data") or {}).items()}
        key = _read_key(content, _TLS_KEY)
        next_key = _read_key(content, _NEXT_KEY) if _NEXT_KEY in content else None
        sealing_key = X25519PrivateKey.from_private_bytes(content[_SEALING_KEY])
        signer = Ed25519PublicKey.from_public_bytes(content[_SIGNER]) if _SIGNER in content else None
    except (KeyError, ValueError, TypeError, UnsupportedAlgorithm):
        # Never with the cause: it may quote the key.
        raise IdentityInvalid(
            f"Secret {SECRET_NAME} is damaged: delete it and enrol the agent again with a new token"
        ) from None
    certificate = None
    if _CHAIN in content:
        certificate = Certificate.read(content[_CHAIN].decode(), content.get(_ROOT, b"").decode(), key)
    return Identity(key, sealing_key, certificate, signer, next_key, secret["metadata"]["resourceVersion"])


def _read_key(content: Mapping[str, bytes], name: str) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(content[name], password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise IdentityInvalid(f"Secret {SECRET_NAME}: {name} is no EC key")
    return key


def _signer(encoded: str) -> Ed25519PublicKey:
    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(encoded, validate=True))
    except ValueError:
        raise IdentityInvalid("the relay sent no usable signing key") from None
