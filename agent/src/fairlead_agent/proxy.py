"""
Which way leads to the relay: straight, or through the operator's HTTP proxy. Decides; connects to nothing.

The variables are the ones every tool reads. Their values may hold a password, which must not reach a log or an error.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that makes tunnels with CONNECT."""

    host: str
    port: int
    tls: bool
    """Whether to speak TLS with the proxy itself (`https://`)."""
    authorization: str | None = field(default=None, repr=False)
    """Value of the header Proxy-Authorization; None without a user."""

    @property
    def address(self) -> str:
        """HOST:PORT, without the password."""
        return f"{self.host}:{self.port}"


def parse_proxy(url: str) -> Proxy:
    """
    Read a proxy's address.

    Args:
        url: `http://[USER:PASSWORD@]HOST[:PORT]`, or with `https` when the proxy itself is reached over TLS; without
            a scheme `http` is meant. User and password are percent-encoded.
    Raises: ValueError: it is something else; the message does not repeat it.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port
    except ValueError:
        raise ValueError("it must look like http://[USER:PASSWORD@]HOST:PORT") from None
    if parts.scheme not in _PORTS:
        raise ValueError(f"a proxy with the scheme {parts.scheme} is not supported, only http and https")
    if not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("it must look like http://[USER:PASSWORD@]HOST:PORT")
    authorization = None
    if parts.username:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return Proxy(parts.hostname, port or _PORTS[parts.scheme], parts.scheme == "https", authorization)


def is_excepted(no_proxy: str, host: str, port: int) -> bool:
    """
    Return whether the relay is to be reached without the proxy.

    Args:
        no_proxy: Entries separated by commas or spaces: `*`, a name (its subdomains too, with or without a leading
            dot), an IP address, a CIDR range, each with an optional `:PORT`.
        host: Of the relay: a name or an IP address.
        port: Of the relay.
    """
    return any(_covers(entry, host.lower().rstrip("."), port) for entry in no_proxy.lower().replace(",", " ").split())


def _covers(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    address = _address(host)
    if address is not None:
        try:
            return address in ipaddress.ip_network(entry.strip("[]"), strict=False)
        except ValueError:
            pass
    name, colon, last = entry.rpartition(":")
    if colon and last.isdecimal():
        return int(last) == port and _covers(name, host, port)
    suffix = entry.lstrip("*").strip(".")
    return bool(suffix) and (host == suffix or host.endswith(f".{suffix}")) and (address is None or host == suffix)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def proxy_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the settings `https_proxy` and `no_proxy` from a process's environment; small letters win, as in curl."""
    return {name: environment.get(name) or environment.get(name.upper()) or "" for name in ("https_proxy", "no_proxy")}
