"""
Which relay the command talks to, and with which token.

The file holds contexts by name, one relay and token each, of which one is current; `fairlead login` writes it, readable
by its owner only. FAIRLEAD_CONTEXT chooses another than the current one. FAIRLEAD_SERVER, FAIRLEAD_TOKEN and
FAIRLEAD_CA_FILE come before the file, so that CI needs none. This module opens no connection and never prints a token.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from fairlead_cli.errors import ConfigInvalid, ContextUnknown, NotLoggedIn

DEFAULT_FILE = "~/.config/fairlead/config.yaml"
FIRST_NAME = "default"
"""Name of the first context, unless `login` is told another."""

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_MAX_HOST = 50
"""Characters of a host in a context's name, which has a port behind it at most."""

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


@dataclass(frozen=True, slots=True)
class Stored:
    """What the file holds."""

    current: str = ""
    """Name of the context in use; empty if none was chosen since that one was deleted."""
    contexts: Mapping[str, Context] = field(default_factory=dict)

    def named(self, name: str) -> Context:
        """Return a context. Raises: ContextUnknown: there is none of this name."""
        if name not in self.contexts:
            raise ContextUnknown(name, sorted(self.contexts))
        return self.contexts[name]

    def with_context(self, name: str, context: Context) -> Stored:
        """Return the same with a context, which becomes the current one."""
        return Stored(name, {**self.contexts, name: context})

    def using(self, name: str) -> Stored:
        """Return the same with another current context. Raises: ContextUnknown."""
        self.named(name)
        return replace(self, current=name)

    def without(self, name: str) -> Stored:
        """Return the same without a context. Raises: ContextUnknown."""
        self.named(name)
        kept = {other: context for other, context in self.contexts.items() if other != name}
        return Stored("" if self.current == name else self.current, kept)

    def renamed(self, name: str, new: str) -> Stored:
        """Return the same with a context of another name. Raises: ContextUnknown; ConfigInvalid: that is taken."""
        self.named(name)
        if new in self.contexts:
            raise ConfigInvalid(new, "there is a context of this name already; delete it first")
        contexts = {new if other == name else other: context for other, context in self.contexts.items()}
        return Stored(new if self.current == name else self.current, contexts)


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


def check_context_name(name: str) -> str:
    """Return a name that a context may have. Raises: ConfigInvalid: it may not."""
    if not _NAME.fullmatch(name):
        rule = "1-63 letters, digits, '.', '_' and '-', a letter or digit first and last"
        raise ConfigInvalid("context", f"{name!r} is no name for one: {rule}")
    return name


def load(environment: Mapping[str, str]) -> Context:
    """
    Choose the context to use.

    Args:
        environment: The process's environment variables.
    Raises: NotLoggedIn: server or token is named nowhere. ContextUnknown: FAIRLEAD_CONTEXT names none.
        ConfigInvalid: the file cannot be read or understood.
    """
    file = read_stored(config_file(environment))
    name = environment.get("FAIRLEAD_CONTEXT") or file.current
    stored = file.named(name) if name else Context("", "")
    server = environment.get("FAIRLEAD_SERVER") or stored.server
    if server != stored.server:
        stored = Context(server, "")  # a token is sent to the relay it was given for, and no other
    token = environment.get("FAIRLEAD_TOKEN", "").strip()
    organization = "" if token else stored.organization
    token = token or stored.token
    if not server:
        if file.contexts:
            raise NotLoggedIn("no context is current; 'fairlead context use NAME' chooses one")
        raise NotLoggedIn("no relay is named")
    if not token:
        raise NotLoggedIn(f"no token for {server}")
    ca_file = environment.get("FAIRLEAD_CA_FILE") or stored.ca_file
    return Context(check_server(server), check_token(token), organization, ca_file)


def name_for(file: Path, server: str) -> str:
    """
    Return the name under which a login to a relay is stored if none is asked for.

    Returns: The name of the context that has this server; `default` for the first; else the server's host.
    """
    contexts = _readable(file).contexts
    found = next((name for name, context in contexts.items() if context.server == server), None)
    if found is not None or not contexts:
        return found or FIRST_NAME
    parts = urlsplit(server)
    host = re.sub(r"[^A-Za-z0-9]+", "-", parts.hostname or "").strip("-")[:_MAX_HOST] or FIRST_NAME
    return host if host not in contexts else f"{host}-{parts.port or parts.scheme}"


def save(file: Path, context: Context, name: str) -> None:
    """
    Store a context and make it the current one; a file that is none of ours is written anew.

    Raises: ConfigInvalid: the file cannot be written.
    """
    write_stored(file, _readable(file).with_context(name, context))


def _readable(file: Path) -> Stored:
    """Read all contexts; none if the file cannot be read, since `login` is what mends it."""
    try:
        return read_stored(file)
    except ConfigInvalid:
        return Stored()


def read_stored(file: Path) -> Stored:
    """
    Read all contexts; none if there is no file.

    Raises: ConfigInvalid: the file cannot be read or understood.
    """
    import yaml

    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        contexts = {str(name): _context(entry) for name, entry in document["contexts"].items()}
        current = str(document.get("current") or "")
    except FileNotFoundError:
        return Stored()
    except OSError as error:
        raise ConfigInvalid(str(file), f"cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, LookupError, TypeError, AttributeError):
        # The parser's own message may quote the token.
        reason = "is no configuration of fairlead; run 'fairlead login' to write it anew"
        raise ConfigInvalid(str(file), reason) from None
    return Stored(current if current in contexts else "", contexts)


def write_stored(file: Path, stored: Stored) -> None:
    """
    Write all contexts, whole or not at all, mode 0600.

    Raises: ConfigInvalid: the file cannot be written.
    """
    import yaml

    entries = {name: _entry(context) for name, context in stored.contexts.items()}
    text = yaml.safe_dump({"current": stored.current, "contexts": entries}, sort_keys=False)
    try:
        write_private(file, text)
    except OSError as error:
        raise ConfigInvalid(str(file), f"cannot be written: {error.strerror}") from error


def _context(entry: Mapping[str, object]) -> Context:
    fields = {name: str(entry.get(name) or "") for name in ("token", "organization", "ca_file")}
    return Context(str(entry["server"]), **fields)


def _entry(context: Context) -> dict[str, str]:
    entry = {"server": context.server, "organization": context.organization, "token": context.token}
    return entry | ({"ca_file": context.ca_file} if context.ca_file else {})


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
