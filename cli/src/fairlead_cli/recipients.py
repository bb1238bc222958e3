"""
The sealing keys of clusters, pinned at first use like ssh's host keys.

A relay that was taken over could offer a key of its own and read every Secret; a pin turns that into an error. The file
`known_recipients` lies beside the configuration: one line per cluster, `SERVER ORGANIZATION/CLUSTER FINGERPRINT`.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from fairlead_cli.config import write_private
from fairlead_cli.errors import AnswerInvalid, ConfigInvalid, RecipientChanged
from fairlead_shared.identity import key_fingerprint

FILE_NAME = "known_recipients"
_PARTS = 3
_KEY_BYTES = 32


def read_key(public_key: str, fingerprint: str) -> X25519PublicKey:
    """
    Read a sealing key as the API gives it, and check that the fingerprint shown to people is this key's.

    Args:
        public_key: Base64 of the raw 32 bytes.
        fingerprint: `SHA256:…`, as the relay says.
    Raises: AnswerInvalid: no such key, or the fingerprint of another.
    """
    try:
        raw = base64.b64decode(public_key, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _KEY_BYTES:
        raise AnswerInvalid("sealing key", "it is not the base64 of 32 bytes")
    key = X25519PublicKey.from_public_bytes(raw)
    if key_fingerprint(key) != fingerprint:
        raise AnswerInvalid("sealing key", f"the relay names {fingerprint}, the key has {key_fingerprint(key)}")
    return key


def pin(file: Path, server: str, cluster: str, fingerprint: str) -> bool:
    """
    Compare a cluster's fingerprint with the pinned one; pin it if there is none.

    Args:
        file: The `known_recipients` file; made if missing.
        server: Base URL of the relay: two relays may both have a cluster of this name.
        cluster: `ORGANIZATION/CLUSTER`.
        fingerprint: What the key that is about to be used has.
    Returns: Whether it is seen for the first time, which the user should see.
    Raises: RecipientChanged: another is pinned. ConfigInvalid: the file cannot be read or written.
    """
    try:
        with _lock(file):
            lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
            for number, line in enumerate(lines, start=1):
                parts = line.split()
                if len(parts) != _PARTS or parts[:2] != [server, cluster]:
                    continue
                if parts[2] == fingerprint:
                    return False
                raise RecipientChanged(cluster, parts[2], fingerprint, str(file), number)
            write_private(file, "\n".join([*lines, f"{server} {cluster} {fingerprint}"]) + "\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ConfigInvalid(str(file), f"cannot be used to pin sealing keys: {reason}") from error
    return True


@contextmanager
def _lock(file: Path) -> Iterator[None]:
    """Keep two first deployments at the same moment from losing one another's pin."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with file.with_name(f".{file.name}.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
