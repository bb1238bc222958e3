"""
Names, identities in certificates and key fingerprints.

Both sides must agree on how a certificate names its agent (a SAN URI) and on what a fingerprint is. This module
parses and prints; it makes no keys and opens no files.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import NewType

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, x25519
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from fairlead_shared.errors import NameInvalid

OrganizationName = NewType("OrganizationName", str)
ClusterName = NewType("ClusterName", str)
AgentName = NewType("AgentName", str)
ApplicationName = NewType("ApplicationName", str)
EnvironmentName = NewType("EnvironmentName", str)
DeploymentId = NewType("DeploymentId", str)
JobId = NewType("JobId", str)

CLOCK_SKEW_SECONDS = 300.0
"""How far the clocks of relay and agent may differ: certificates are valid so long before they are made."""
URI_SCHEME = "fairlead"
NAME_RULE = "1-63 characters, lower-case letters, digits and '-', starting and ending with a letter or digit"
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_ID = re.compile(r"[0-9a-z]{16,40}")


def check_name(what: str, value: str) -> str:
    """
    Return `value` if it is a valid name, the same rule as a DNS label so that it can stand in labels and host names.

    Args:
        what: What the name is for, e.g. "environment"; only for the error.
        value: The name.
    Raises: NameInvalid: it breaks the rule.
    Source: RFC 1123 §2.1; https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-label-names
    """
    if not _NAME.fullmatch(value):
        raise NameInvalid(what, value, NAME_RULE)
    return value


def check_id(what: str, value: str) -> str:
    """
    Return `value` if it is a valid client-made id: 16-40 lower-case letters and digits, fit for object names.

    Raises: NameInvalid: it breaks the rule.
    """
    if not _ID.fullmatch(value):
        raise NameInvalid(what, value, "16-40 lower-case letters and digits")
    return value


@dataclass(frozen=True, slots=True)
class AgentIdentity:
    """Who a certificate speaks for: one agent of one cluster of one organization."""

    organization: OrganizationName
    cluster: ClusterName
    agent: AgentName

    @classmethod
    def parse(cls, uri: str) -> AgentIdentity:
        """
        Read an identity from a SAN URI `fairlead://ORGANIZATION/CLUSTER/AGENT`.

        Raises: NameInvalid: another scheme, another shape, or a part that is no valid name.
        """
        scheme, separator, rest = uri.partition("://")
        parts = rest.split("/")
        if scheme != URI_SCHEME or not separator or len(parts) != 3:  # noqa: PLR2004  (three names)
            raise NameInvalid("identity", uri, f"must be {URI_SCHEME}://ORGANIZATION/CLUSTER/AGENT")
        organization, cluster, agent = parts
        return cls(
            OrganizationName(check_name("organization", organization)),
            ClusterName(check_name("cluster", cluster)),
            AgentName(check_name("agent", agent)),
        )

    @classmethod
    def from_certificate(cls, certificate: x509.Certificate) -> AgentIdentity:
        """
        Read the identity of an agent's certificate.

        Raises: NameInvalid: no SAN, more than one URI in it, or one that is no identity.
        """
        try:
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            raise NameInvalid("certificate", "", "it has no subject alternative name") from None
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        if len(uris) != 1:
            raise NameInvalid("certificate", ", ".join(uris), "exactly one URI must name the agent")
        return cls.parse(uris[0])

    @property
    def uri(self) -> str:
        """The SAN URI of this identity."""
        return f"{URI_SCHEME}://{self.organization}/{self.cluster}/{self.agent}"

    def __str__(self) -> str:
        return f"{self.organization}/{self.cluster}/{self.agent}"


def certificate_fingerprint(certificate: x509.Certificate) -> str:
    """Return the lower-case hex SHA-256 of a certificate's DER form (64 characters)."""
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()


def key_fingerprint(key: ed25519.Ed25519PublicKey | x25519.X25519PublicKey) -> str:
    """Return `SHA256:` and the unpadded base64 of the raw key's SHA-256, the form that ssh made familiar."""
    digest = hashlib.sha256(key.public_bytes_raw()).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def public_key_sha256(key: PublicKeyTypes) -> str:
    """Return the lower-case hex SHA-256 of a public key's DER form (SubjectPublicKeyInfo)."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(serialization.Encoding.DER, form)).hexdigest()


def identity_fingerprint(sha256: str) -> str:
    """Return the form of an agent's identity key's SHA-256 that people compare when they approve it."""
    return "SHA256:" + base64.b64encode(bytes.fromhex(sha256)).decode().rstrip("=")


def issued_at(certificate: x509.Certificate) -> float:
    """
    Return when a certificate was made, seconds since the epoch: its validity begins earlier, for skewed clocks.

    One that lives for less than the skew that is allowed and was not made by a relay is taken as it is.
    """
    begins, ends = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    return begins + CLOCK_SKEW_SECONDS if begins + CLOCK_SKEW_SECONDS < ends else begins
