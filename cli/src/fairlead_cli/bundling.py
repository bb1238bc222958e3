"""
Makes the bundle of one deployment: Secrets sealed to the pinned key, bytes and hash fixed.

Plaintext ends here: what is returned may be seen by anybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from fairlead_cli.errors import ManifestInvalid, NoRecipient
from fairlead_cli.manifests import Located
from fairlead_cli.recipients import pin, read_key
from fairlead_cli.records import Environment
from fairlead_cli.sealed_secrets import has_values, without_values
from fairlead_shared.bundle import Bundle, make_bundle
from fairlead_shared.errors import BundleInvalid


@dataclass(frozen=True, slots=True)
class Prepared:
    """A bundle ready to be sent."""

    bundle: Bundle
    origins: Mapping[str, str]
    """Object → FILE:LINE."""
    new_pin: str
    """`CLUSTER FINGERPRINT` if the cluster's sealing key was pinned only now; empty otherwise."""


def prepare(
    located: Sequence[Located],
    organization: str,
    environment: Environment,
    server: str,
    pins: Path,
) -> Prepared:
    """
    Make the bundle of some objects for one environment.

    Args:
        located: The objects.
        organization: Whose environment it is.
        environment: With its `application` named.
        server: The relay's base URL, part of the pin.
        pins: The file of pinned keys.
    Raises: ManifestInvalid: a Secret's values are wrong, or it is too much. NoRecipient: Secrets and no key.
        RecipientChanged: another key.
    """
    recipient: X25519PublicKey | None = None
    new_pin = ""
    if any(has_values(one) for one in located):
        if environment.sealing_key is None:
            raise NoRecipient(environment.cluster)
        fingerprint = environment.sealing_key.fingerprint
        recipient = read_key(environment.sealing_key.public_key, fingerprint)
        cluster = f"{organization}/{environment.cluster}"
        new_pin = f"{cluster} {fingerprint}" if pin(pins, server, cluster, fingerprint) else ""
    where = (organization, environment.application, environment.name)
    try:
        bundle = make_bundle(without_values(one, where, recipient) for one in located)
    except BundleInvalid as error:
        raise ManifestInvalid(error.reason, file="the bundle of all input") from error
    return Prepared(bundle, {str(one.ref): str(one.origin) for one in located}, new_pin)
