"""
Fetches manifests from a URL: https all the way, bounded in size and time, without any token of ours.

What is fetched is what runs in the cluster, so nothing on the way may change it: no clear text, no redirect out of
https, the system's CAs.
"""

from __future__ import annotations

import ssl
from urllib.parse import urljoin, urlsplit, urlunsplit

import httpx

from fairlead_cli.alarms import TimeIsUp, alarm_after
from fairlead_cli.errors import ManifestInvalid

SCHEME = "https://"
FETCH_SECONDS = 60.0
"""For all of it. The largest sets of manifests have a few MiB."""

MAX_REDIRECTS = 5
_TIMEOUT = httpx.Timeout(10.0)


def is_url(name: str) -> bool:
    """Tell whether what `-f` names is a URL and no file."""
    return "://" in name


def shown_url(url: str) -> str:
    """Return a URL without user, query and fragment: each may hold somebody's token, and origins are stored."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def fetch(
    url: str, most_bytes: int, *, seconds: float = FETCH_SECONDS, transport: httpx.BaseTransport | None = None
) -> str:
    """
    Return the text at a URL.

    Args:
        url: It must be https.
        most_bytes: How much it may be.
        seconds: How long it may take, > 0.
        transport: In place of TCP, for tests.
    Raises: ManifestInvalid: another scheme, no answer, a refusal, too much, too slow, or no text.
    """
    name = shown_url(url)
    _check(url, name)
    try:
        with (
            alarm_after(seconds),
            httpx.Client(
                verify=ssl.create_default_context(),
                timeout=_TIMEOUT,
                transport=transport,
                headers={"Accept-Encoding": "identity"},  # so that the size announced is the size read
            ) as client,
        ):
            content = _follow(client, url, name, most_bytes)
    except TimeIsUp:
        raise ManifestInvalid(f"has not arrived after {seconds:.0f} s", file=name) from None
    except httpx.TransportError as error:
        raise ManifestInvalid(f"cannot be fetched: {str(error) or type(error).__name__}", file=name) from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestInvalid(f"byte {error.start} is not UTF-8; manifests are UTF-8 text", file=name) from None
    if text.lstrip()[:1] == "<":
        raise ManifestInvalid("this is a page for people; name the address of the raw file", file=name)
    return text


def _follow(client: httpx.Client, url: str, name: str, most_bytes: int) -> bytes:
    """Get a URL, through redirects that stay in https."""
    for _ in range(MAX_REDIRECTS + 1):
        with client.stream("GET", url) as answer:
            if answer.is_redirect:
                url = urljoin(url, answer.headers.get("Location", ""))
                _check(url, name)
                continue
            if answer.status_code != httpx.codes.OK:
                raise ManifestInvalid(f"the server answers HTTP status {answer.status_code}", file=name)
            content = bytearray()
            for chunk in answer.iter_bytes():
                content += chunk
                if len(content) > most_bytes:
                    raise ManifestInvalid(f"it has more than {most_bytes:,} bytes", file=name)
            return bytes(content)
    raise ManifestInvalid(f"it redirects more than {MAX_REDIRECTS} times", file=name)


def _check(url: str, name: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise ManifestInvalid(f"leads to {shown_url(url)!r}; manifests are fetched over https only", file=name)
    if parts.username or parts.password:
        raise ManifestInvalid("the URL must hold no user name or password", file=name)
