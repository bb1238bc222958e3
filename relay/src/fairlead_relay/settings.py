"""
Settings of the relay: one frozen model. Where its values come from is in settings_sources.py.

Every default works on one machine: `fairlead-relay serve --data-dir DIR` needs nothing else.
"""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from fairlead_relay.bucket_url import BucketUrl

_LISTEN = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<host>[^\[\]:]*)):(?P<port>\d{1,5})")
_LARGEST_PORT = 65_535
_PASSWORD = re.compile(r"(?P<before>://[^/?#]*?:|[?&](?:ssl)?password=)(?:(?<=:)[^/?#]*(?=@)|(?<==)[^&#]*)")
"""In a database URL, between user and host or in the query."""


class LogFormat(StrEnum):
    """How log lines look."""

    JSON = "json"
    CONSOLE = "console"


def parse_listen(value: str) -> tuple[str, int]:
    """
    Read `HOST:PORT`, with IPv6 addresses in brackets.

    Args:
        value: The text; an empty host means every address.

    Returns: Host, empty for every address, and port, 0 for any free one.
    Raises: ValueError: another form, or a port that does not exist.

    """
    match = _LISTEN.fullmatch(value)
    if match is None or int(match["port"]) > _LARGEST_PORT:
        raise ValueError("must look like HOST:PORT, [IPV6]:PORT or :PORT, with a port from 0 (any free one) to 65535")
    return match["six"] or match["host"], int(match["port"])


def _listen(value: str) -> str:
    parse_listen(value)
    return value


def _listen_or_nothing(value: str) -> str:
    return _listen(value) if value else value


def _url(*schemes: str) -> AfterValidator:
    def check(value: str) -> str:
        if value and (urlsplit(value).scheme not in schemes or not urlsplit(value).hostname):
            raise ValueError(f"must start with {' or '.join(f'{scheme}://' for scheme in schemes)} and name a host")
        return value.rstrip("/")

    return AfterValidator(check)


def _blobs_url() -> AfterValidator:
    def check(value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme == "s3":
            BucketUrl.parse(value)
            return value
        is_folder = parts.scheme == "file" and not parts.netloc and parts.path.startswith("/")
        if value and not is_folder and parts.scheme != "postgresql":
            raise ValueError("must be file:///folder, s3://bucket or postgresql://host/database")
        return value

    return AfterValidator(check)


def _split(value: object) -> object:
    """Read a list as an environment holds it: names separated by commas."""
    return tuple(filter(None, (part.strip() for part in value.split(",")))) if isinstance(value, str) else value


class Settings(BaseModel):
    """What can be set, with units, defaults and reasons."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_dir: Path = Path("/var/lib/fairlead-relay")
    """Folder of the certificate authority, the SQLite file and the bundles; made if its parent exists."""

    authority_dir: str = ""
    """Folder of the certificate authority and the key that signs statements, which relays on one database share; it may
    be a read-only mount of a Secret. Empty: `pki` in `data_dir`."""

    backup_dir: str = ""
    """Folder into which the relay writes its own backups; made if its parent exists. Empty: it writes none."""

    backup_hours: Annotated[float, Field(ge=0.01, le=24 * 365)] = 24.0
    """How long after one of its own backups a relay begins the next. A day: nightly, as operators expect."""

    backup_keep: Annotated[int, Field(ge=1, le=1000)] = 7
    """How many of its own backups a relay keeps, the newest: with one a day, a mistake is found within a week."""

    api_listen: Annotated[str, AfterValidator(_listen)] = "127.0.0.1:7443"
    """Address of the API. This machine only until somebody decides otherwise; port 0 takes any free port."""

    agent_listen: Annotated[str, AfterValidator(_listen)] = "0.0.0.0:7444"
    """Address of the port that agents dial. Everything but enrolment needs a certificate there."""

    metrics_listen: Annotated[str, AfterValidator(_listen_or_nothing)] = ""
    """Address of the counts for Prometheus, `/metrics` over plain HTTP and without a token; empty: they are not served.
    Nobody is to learn how busy a relay is until its operator decided who may."""

    api_url: Annotated[str, _url("https", "http")] = ""
    """How people reach the API; empty: made from `api_listen`."""

    agent_url: Annotated[str, _url("wss")] = ""
    """How agents reach the agent port, told to whoever enrols one; empty: the first server name and the port."""

    server_names: Annotated[tuple[str, ...], BeforeValidator(_split), Field(min_length=1)] = (
        "localhost",
        "127.0.0.1",
        "::1",
    )
    """DNS names and addresses in the relay's own certificates, comma-separated; the hosts of both URLs are added."""

    api_tls: bool = True
    """Off only behind an ingress that ends TLS: tokens cross the network in the clear. The agent port keeps its TLS."""

    database_url: str = ""
    """SQLAlchemy URL; empty: a SQLite file in `data_dir`."""

    blobs_url: Annotated[str, _blobs_url()] = ""
    """Where bundles are: `file:///folder`, also one that several relays mount, `postgresql://…`, or
    `s3://bucket/prefix?endpoint=URL&region=NAME&ca_file=FILE` with the credentials that AWS_… variables hold. Empty: in
    `data_dir` beside an SQLite file, else in the store's database."""

    history_days: Annotated[float, Field(ge=1)] = 90.0
    """How long deployments that ended are kept at least, with their events. What runs, and each environment's newest
    20, stay whatever their age."""

    heartbeat_seconds: Annotated[float, Field(gt=0, le=20)] = 10.0
    """How often an agent speaks at least. The protocol calls a peer dead after 25 s of silence: two may be lost."""

    lease_seconds: Annotated[float, Field(ge=1, le=3600)] = 60.0
    """How long an agent may hold a job without renewing it: longer than the 25 s of silence that end its connection."""

    jobs_per_agent: Annotated[int, Field(ge=1, le=1000)] = 10
    """Jobs one agent runs at a time; each may hold a bundle of 16 MiB in the agent's memory."""

    unidentified_per_minute: Annotated[int, Field(ge=1)] = 600
    """Connections without a client certificate served per minute: 10,000 agents whose certificates all lapsed are back
    within 17 minutes, and a flood costs no more than 10 signatures a second."""

    requests_per_minute: Annotated[int, Field(ge=1)] = 30_000
    """API requests of one token served per minute: about what one relay answers at all on two cores, so that a script
    that runs wild leaves something to others, and nothing else ever notices."""

    failures_per_minute: Annotated[int, Field(ge=1)] = 600
    """API requests without a good token answered 401 per minute and address; then 429. No token can be guessed; this
    keeps the noise of a scanner out of the way. Good tokens pass from any address: behind an ingress all have one."""

    certificate_seconds: Annotated[float, Field(ge=4, le=90 * 86_400)] = 86_400.0
    """Life of agents' certificates. A day: a relay may be away for hours, and one that leaked is soon worthless.
    Revocation does not wait for it."""

    connection_max_age_seconds: Annotated[float, Field(ge=1)] = 7200.0
    """After at most so long an agent is asked to reconnect, and does within seconds: connections spread over replicas
    that joined, and what only a new connection finds wrong is found at a quiet time."""

    tls_inspection: bool = False
    """Whether to serve agents whose network ends TLS on the way: they and the relay then prove themselves by a TLS of
    their own inside. Off: such networks show as a certificate that is not the relay's, which agents refuse."""

    log_format: LogFormat = LogFormat.JSON
    """`json` for collectors, `console` for people."""

    def masked(self) -> dict[str, object]:
        """Return setting → value as JSON has it, with the databases' passwords masked."""
        urls = {"database_url": self.database_url, "blobs_url": self.blobs_url}
        return self.model_dump(mode="json") | {name: _PASSWORD.sub(r"\g<before>***", url) for name, url in urls.items()}

    @property
    def authority(self) -> Path:
        """Folder of the certificate authority in force."""
        return Path(self.authority_dir) if self.authority_dir else self.data_dir / "pki"

    @property
    def database(self) -> str:
        """The database URL in force."""
        return self.database_url or f"sqlite:///{self.data_dir.resolve() / 'relay.db'}"

    @property
    def certificate_names(self) -> tuple[str, ...]:
        """Every name under which the relay is reached, each once, in order."""
        hosts = (urlsplit(url).hostname for url in (self.api_url, self.agent_url))
        return tuple(dict.fromkeys([*self.server_names, *filter(None, hosts)]))

    def with_urls(self, api_port: int, agent_port: int) -> Self:
        """
        Fill in the URLs that were left empty, once the ports are known.

        Args:
            api_port: Port the API really listens on.
            agent_port: Port agents really dial.

        """
        host = parse_listen(self.api_listen)[0]
        name = self.server_names[0]
        api_host = name if host in {"", "0.0.0.0", "::"} else host  # noqa: S104  (compared, not bound)
        scheme = "https" if self.api_tls else "http"
        return self.model_copy(
            update={
                "api_url": self.api_url or f"{scheme}://{_in_url(api_host)}:{api_port}",
                "agent_url": self.agent_url or f"wss://{_in_url(name)}:{agent_port}",
            }
        )


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
