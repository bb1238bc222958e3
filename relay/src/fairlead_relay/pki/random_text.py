"""Random text for tokens and their ids: lower-case base32, which survives copying, URLs and Kubernetes names."""

from __future__ import annotations

import base64
import secrets


def random_base32(length: int) -> str:
    """Return so many random characters of five bits each."""
    # One call for all bits: a call for each character would cost a tenth of queueing a job.
    return base64.b32encode(secrets.token_bytes((5 * length + 7) // 8)).decode().lower()[:length]
