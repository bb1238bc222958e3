"""
How to reach and be known to the API server: address, trusted CA and bearer token, as a pod's ServiceAccount gives them.

The kubelet replaces a bound token long before it expires, and the CA's file when the cluster's CA is changed: both are
read again each minute, and at once when the API server refuses the token or shows a certificate that is not trusted.
Nothing is logged here, least of all the token.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fairlead_agent.errors import Unreachable

REREAD_SECONDS = 60.0
"""The kubelet renews a token at 80 % of a life of at least 10 minutes, so a minute is always soon enough."""
SERVICE_ACCOUNT_DIRECTORY = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class ClusterAccess:
    """One API server and one identity there."""

    server: str
    """URL without a trailing slash."""
    ca_file: Path
    token_file: Path

    @classmethod
    def in_cluster(cls, environment: Mapping[str, str], directory: Path = SERVICE_ACCOUNT_DIRECTORY) -> ClusterAccess:
        """
        Return the access every pod has.

        Args:
            environment: Environment variables, with KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT.
            directory: Where the ServiceAccount's token and ca.crt are mounted.
        Raises: Unreachable: the variables are missing: this is no pod, or its service links are off.
        """
        host = environment.get("KUBERNETES_SERVICE_HOST", "")
        port = environment.get("KUBERNETES_SERVICE_PORT", "")
        if not host or not port:
            raise Unreachable("of this cluster", "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set")
        bracketed = f"[{host}]" if ":" in host else host
        return cls(f"https://{bracketed}:{port}", directory / "ca.crt", directory / "token")


class TrustSource:
    """The CAs that may have signed the API server's certificate; the cluster's, and nothing else."""

    def __init__(self, access: ClusterAccess) -> None:
        self._access = access
        self._content = b""
        self._context: ssl.SSLContext | None = None
        self._read_at = float("-inf")

    def current(self) -> ssl.SSLContext:
        """
        Return a context that trusts them, the same one until the file's content changes.

        Raises: Unreachable: the file is missing or no certificate, and always was.
        """
        if self._context is None or time.monotonic() - self._read_at > REREAD_SECONDS:
            return self.reread()
        return self._context

    def reread(self) -> ssl.SSLContext:
        """Read the file now; an unusable file keeps the last context. Raises: Unreachable: there is no last context."""
        self._read_at = time.monotonic()
        try:
            content = self._access.ca_file.read_bytes()
            if self._context is None or content != self._content:
                # Not `create_default_context`: without a CA it would trust the system's.
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.minimum_version = ssl.TLSVersion.TLSv1_2
                # As kubectl has it: what stands in the file is trusted, also an intermediate CA without its root.
                context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
                # Certificates are ASCII; what people write between them need not be.
                context.load_verify_locations(cadata=content.decode("ascii", "ignore"))
                self._context, self._content = context, content
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            if self._context is None:
                reason = f"its CA file {self._access.ca_file} cannot be used: {error}"
                raise Unreachable(self._access.server, reason) from error
        return self._context


class TokenSource:
    """The current bearer token."""

    def __init__(self, access: ClusterAccess) -> None:
        self._access = access
        self._token = ""
        self._read_at = float("-inf")

    def current(self) -> str:
        """
        Return the token, read again if the last reading is older than a minute.

        Raises: Unreachable: the file cannot be read, and never could.
        """
        if time.monotonic() - self._read_at > REREAD_SECONDS:
            self.reread()
        return self._token

    def reread(self) -> None:
        """Read the file now; an unreadable file keeps the last token. Raises: Unreachable: there is no last token."""
        try:
            self._token = self._access.token_file.read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            if not self._token:
                reason = f"the token file {self._access.token_file} cannot be read: {error}"
                raise Unreachable(self._access.server, reason) from error
        self._read_at = time.monotonic()
