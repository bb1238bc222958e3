"""
What a failure on the way to the relay means: the hop, the certificate that was not accepted and why, what to do.

Libraries report TLS failures in OpenSSL's words; this is the only place that reads them.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidStatus

from fairlead_agent.errors import ConnectFailed
from fairlead_agent.proxy import Proxy

MAX_RETRY_AFTER_SECONDS = 300.0
"""What a server may ask for; more is taken for this."""

INSPECTION_REMEDY = (
    "have the network's owner except the relay from inspection, or allow it on both sides: FAIRLEAD_TLS_INSPECTION "
    "with the owner's CA in FAIRLEAD_CA_BUNDLE_FILE here, FAIRLEAD_RELAY_TLS_INSPECTION at the relay"
)
"""What to do where the network inspects TLS."""

_ALERTS = {
    "UNKNOWN_CA": "no CA that the relay trusts has issued it: was the relay's CA replaced? Enrol this agent again",
    "DECRYPT_ERROR": "another CA than the one the relay trusts has signed it: was the relay's CA replaced? Enrol again",
    "CERTIFICATE_EXPIRED": "it has expired, or one of the two clocks is wrong",
    "CERTIFICATE_REVOKED": "it was revoked",
    "CERTIFICATE_UNKNOWN": "the relay cannot verify it",
    "BAD_CERTIFICATE": "the relay cannot read or verify it; one of the two clocks may be wrong",
    "UNSUPPORTED_CERTIFICATE": "it is not meant for clients",
    "CERTIFICATE_REQUIRED": "the relay wants one",
    "ACCESS_DENIED": "the relay denies it access",
}
"""TLS alerts that speak of the client's certificate."""


def failure_of(errors: Sequence[Exception], address: str) -> ConnectFailed:
    """
    Return what a failed TLS handshake or upgrade means.

    Args:
        errors: What went wrong, the first cause first. TLS 1.3 reports a refused client certificate only at the first
            read, inside the upgrade, whose own error then says nothing of TLS.
        address: Of the relay.
    """
    for error in errors:
        if isinstance(error, ssl.SSLError):
            return ConnectFailed("TLS", address, tls_reason(error))
    last = errors[-1]
    if isinstance(last, InvalidStatus):
        return _refused_upgrade(last, address)
    if isinstance(last, InvalidMessage) and isinstance(last.__cause__, EOFError):
        # What a server that drops the connection without an alert looks like.
        reason = "closed without an answer: the other end refuses this agent's certificate, or is no relay"
        return ConnectFailed("TLS", address, reason)
    if isinstance(last, InvalidHandshake):
        return ConnectFailed("upgrade", address, str(last) or type(last).__name__)
    return ConnectFailed("TLS", address, os_reason(last))


def tls_reason(error: ssl.SSLError) -> str:
    """Return which certificate was not accepted, and why; or what else is wrong with the handshake."""
    if isinstance(error, ssl.SSLCertVerificationError):
        hint = ""
        if "expired" in error.verify_message or "not yet valid" in error.verify_message:
            hint = "; is this machine's clock right?"
        elif "self-signed" in error.verify_message or "issuer" in error.verify_message:
            hint = f"; this is another relay, or something on the way intercepts TLS: {INSPECTION_REMEDY}"
        return f"the relay's certificate is not accepted: {error.verify_message}{hint}"
    name = (error.reason or str(error)).upper()
    for alert, meaning in _ALERTS.items():
        if name.endswith(f"ALERT_{alert}"):
            return f"the relay refuses this agent's certificate: {meaning}"
    if name == "WRONG_VERSION_NUMBER":
        return "what answers does not speak TLS: is this the relay's agent port?"
    if name.endswith(("ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL")):
        return "what answers does not speak TLS 1.3"
    return name.replace("_", " ").lower()


def _refused_upgrade(refused: InvalidStatus, address: str) -> ConnectFailed:
    response = refused.response
    reason = http_reason(response.status_code, response.headers, response.body or b"")
    hop = "authorization" if response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN) else "upgrade"
    return ConnectFailed(hop, address, reason, retry_after(response.headers.get("Retry-After")))


def http_reason(status: int, headers: Mapping[str, str], body: bytes | bytearray) -> str:
    """
    Return what an answer says, and who gave it: a relay names no server, what stands between usually does.

    Args:
        status: HTTP status.
        headers: The names in any case, or all in lower case.
        body: Quoted if it is plain text, shortened.
    """
    server = headers.get("server", "")[:60]
    said = ""
    if headers.get("content-type", "text/plain").startswith("text/plain"):
        said = body[:200].decode(errors="replace").strip()
    return f"HTTP status {status}" + (f" from {server}" if server else "") + (f": {said}" if said else "")


def retry_after(value: str | None) -> float:
    """Return the seconds a Retry-After header asks for; 0 for none, and for a date, which nothing of ours sends."""
    if value is None or not value.strip().isdecimal():
        return 0.0
    return min(float(value), MAX_RETRY_AFTER_SECONDS)


def proxy_refusal(status: int, proxy: Proxy, relay: str) -> ConnectFailed:
    """Return what a proxy's answer to CONNECT means."""
    match status:
        # Some proxies say 401 where 407 is meant.
        case HTTPStatus.PROXY_AUTHENTICATION_REQUIRED | HTTPStatus.UNAUTHORIZED if proxy.authorization is None:
            reason = "it wants a user and password: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT"
        case HTTPStatus.PROXY_AUTHENTICATION_REQUIRED | HTTPStatus.UNAUTHORIZED:
            reason = "it does not accept the user and password in HTTPS_PROXY"
        case HTTPStatus.FORBIDDEN | HTTPStatus.METHOD_NOT_ALLOWED:
            reason = f"it does not allow a tunnel to {relay}: have it allowed there, or except the relay with NO_PROXY"
        case HTTPStatus.INTERNAL_SERVER_ERROR | HTTPStatus.BAD_GATEWAY | HTTPStatus.SERVICE_UNAVAILABLE:
            reason = f"it cannot reach {relay}"
        case HTTPStatus.GATEWAY_TIMEOUT | HTTPStatus.NOT_FOUND:
            reason = f"it cannot reach {relay}, or cannot resolve its name"
        case _:
            reason = f"it refuses a tunnel to {relay}"
    return ConnectFailed("proxy", proxy.address, f"HTTP status {status}: {reason}")


def os_reason(error: BaseException) -> str:
    """Return the system's words for a failure."""
    if isinstance(error, ssl.SSLError):
        return tls_reason(error).replace("the relay's certificate", "the certificate")
    text = getattr(error, "strerror", None) or str(error)
    return text or type(error).__name__
