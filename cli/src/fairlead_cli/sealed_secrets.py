"""
Takes the values out of Secrets and seals them to the cluster's agent, before anything leaves the developer's machine.

No error here repeats a value. Which key is the right one is `recipients`' to say.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from fairlead_cli.errors import ManifestInvalid
from fairlead_cli.manifests import Located
from fairlead_shared.sealing import SealContext, seal

MAX_SECRET_BYTES = 1024 * 1024
"""Of all values of one Secret; https://kubernetes.io/docs/concepts/configuration/secret/#restriction-data-size"""


def has_values(located: Located) -> bool:
    """Tell whether an object is a Secret with values to seal."""
    is_secret = located.ref.kind == "Secret" and not located.ref.group
    return is_secret and any(located.manifest.get(field) for field in ("data", "stringData"))


def without_values(
    located: Located, environment: tuple[str, str, str], recipient: X25519PublicKey | None
) -> dict[str, Any]:
    """
    Return the manifest with `sealedData` in place of `data` and `stringData`; other objects as they are.

    Args:
        located: The object.
        environment: (organization, application, environment) where alone the values may be opened.
        recipient: The agent's sealing key; None only if no object has values.
    Raises: ManifestInvalid: `data` is no base64, a value is no string, or there is too much.
    """
    if not has_values(located) or recipient is None:
        return located.manifest
    values = _values(located)
    context = SealContext(*environment, located.ref.namespace, located.ref.name)
    sealed = seal(values, context, [recipient]).model_dump(mode="json")
    kept = {key: value for key, value in located.manifest.items() if key not in {"data", "stringData"}}
    return kept | {"sealedData": sealed}


def _values(located: Located) -> dict[str, bytes]:
    """Return the plaintext values; stringData wins over data, as in the API server."""
    values: dict[str, bytes] = {}
    for field in ("data", "stringData"):
        entries = located.manifest.get(field) or {}
        if not isinstance(entries, dict):
            raise _refusal(located, "must be a mapping", field)
        for key, text in entries.items():
            if not isinstance(text, str):
                raise _refusal(located, "the value must be a string; quote it", f"{field}.{key}")
            values[key] = text.encode() if field == "stringData" else _decoded(located, key, text)
    if sum(len(value) for value in values.values()) > MAX_SECRET_BYTES:
        raise _refusal(located, f"the values have more than {MAX_SECRET_BYTES:,} bytes, Kubernetes' limit")
    return values


def _decoded(located: Located, key: str, text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        reason = "the value is not base64; put plain text under stringData"
        raise _refusal(located, reason, f"data.{key}") from None


def _refusal(located: Located, reason: str, field: str = "") -> ManifestInvalid:
    return ManifestInvalid(f"{located.ref}: {reason}", file=located.origin.file, line=located.origin.line, field=field)
