"""
Which relay the command talks to, and with which token.

The file holds contexts, one relay each, of which one is current; `fairlead login` writes it, readable by its owner
only. FAIRLEAD_SERVER, FAIRLEAD_TOKEN and FAIRLEAD_CA_FILE come before it, so that CI needs no file. This module opens
no connection and never prints a token.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from fairlead_cli.errors import ConfigInvalid, NotLoggedIn

DEFAULT_FILE = "~/.config/fairlead/config.yaml"
CURRENT = "default"
"""Name of the one context that `login` writes."""

_TOKEN = re.compile(r"flt_[A-Za-z0-9]+_[A-Za-z0-9_-]+")

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class Context:
    """One relay, and who we are there."""

    server: str
    """Base URL, without a path."""
    token: str = field(repr=False)
    organization: str = ""
    """Empty when the token came from the environment: the relay is asked then."""
    ca_file: str = ""
    """PEM file of the CA that the relay's certificate chains to; empty for the system's CAs."""


def config_file(environment: Mapping[str, str]) -> Path:
    """Return where the configuration is kept: FAIRLEAD_CONFIG, or the default below the home folder."""
    return Path(environment.get("FAIRLEAD_CONFIG") or DEFAULT_FILE).expanduser()


def check_server(server: str) -> str:
    """
    Return a relay's base URL without a trailing slash.

    Raises: ConfigInvalid: it is no URL, or it would send the token in clear over a network.
    """
    parts = urlsplit(server)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.path.strip("/"):
        raise ConfigInvalid("server", f"{server!r} must be a URL like https://relay.example.com:7443, without a path")
    if parts.username or parts.password:
        raise ConfigInvalid("server", "the URL must hold no user name or password; the token is asked for")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise ConfigInvalid("server", f"{server!r} would send the token in clear; use https (http only to loopback)")
    return server.rstrip("/")


def check_token(token: str) -> str:
    """
    Return a token without white space around it.

    Raises: ConfigInvalid: nobody could have given out such a token; it is not repeated.
    """
    stripped = token.strip()
    if not _TOKEN.fullmatch(stripped):
        raise ConfigInvalid(
            "token", "it must look like flt_ID_SECRET; copy it whole from 'fairlead-relay token create'"
        )
    return stripped


def load(environment: Mapping[str, str]) -> Context:
    """
    Read the current context.

    Args:
        environment: The process's environment variables.
    Raises: NotLoggedIn: server or token is named nowhere. ConfigInvalid: the file cannot be read or understood.
    """
    stored = _stored(config_file(environment))
    server = environment.get("FAIRLEAD_SERVER") or stored.get("server", "")
    if server != stored.get("server"):
        stored = {}  # a token is sent to the relay it was given for, and no other
    token = environment.get("FAIRLEAD_TOKEN", "").strip()
    organization = ""
    if not token:
        token, organization = stored.get("token", ""), stored.get("organization", "")
    if not server:
        raise NotLoggedIn("no relay is named")
    if not token:
        raise NotLoggedIn(f"no token for {server}")
    ca_file = environment.get("FAIRLEAD_CA_FILE") or stored.get("ca_file", "")
    return Context(check_server(server), check_token(token), organization, ca_file)


def save(file: Path, context: Context) -> None:
    """
    Write the configuration with one context, whole or not at all, mode 0600.

    Raises: ConfigInvalid: the file cannot be written.
    """
    import yaml

    entry = {"server": context.server, "organization": context.organization, "token": context.token}
    if context.ca_file:
        entry["ca_file"] = context.ca_file
    text = yaml.safe_dump({"current": CURRENT, "contexts": {CURRENT: entry}}, sort_keys=False)
    try:
        write_private(file, text)
    except OSError as error:
        raise ConfigInvalid(str(file), f"cannot be written: {error.strerror}") from error


def write_private(file: Path, text: str) -> None:
    """
    Replace a file at once, readable by its owner only; its folder is made if missing.

    Raises: OSError: the file system says no; what was there before is still there.
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")  # mkstemp makes it 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(name).replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def _stored(file: Path) -> dict[str, str]:
    """Read the current context's fields; empty if there is no file."""
    import yaml

    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        context = document["contexts"][document["current"]]
        return {str(key): str(value) for key, value in context.items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigInvalid(str(file), f"cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, LookupError, TypeError, AttributeError):
        # The parser's own message may quote the token.
        reason = "is no configuration of fairlead; run 'fairlead login' to write it anew"
        raise ConfigInvalid(str(file), reason) from None
