"""Random text for tokens and their ids: lower-case base32, which survives copying, URLs and Kubernetes names."""

from __future__ import annotations

import secrets

_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"


def random_base32(length: int) -> str:
    """Return so many random characters of five bits each."""
    return "".join(secrets.choice(_BASE32) for _ in range(length))
