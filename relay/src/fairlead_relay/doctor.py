"""
The doctor: looks at everything a relay needs, from its folder to its ports, and says what fails and what to do.

It may run beside a relay that serves, or before its first start. Each examination stands alone: one that fails does not
hide the next. Changes nothing; a folder or database that is not there yet is no failure where the relay makes it.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import ssl
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from cryptography import x509
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError

from fairlead_relay.errors import AuditBroken, AuthorityDamaged, RelayError, StoreDamaged, StoreError
from fairlead_relay.pki.authority import CertificateAuthority
from fairlead_relay.pki.generations import authority_files
from fairlead_relay.settings import Settings, parse_listen
from fairlead_relay.store.audit import check_chain
from fairlead_relay.store.blobs import open_blobs
from fairlead_relay.store.engines import check_file, check_place, parse_url, reader_engine, translate
from fairlead_relay.store.migrate import can_use, knows_schema, newest_schema, schema_of
from fairlead_relay.store.schema import agents, bundles, organizations
from fairlead_shared.findings import Finding

FREE_BYTES: Final = 256 << 20
"""Below it a busy relay has minutes: a bundle takes up to 16 MiB, and SQLite's log as much again."""
AUTHORITY_SECONDS: Final = 60 * 86_400.0
"""A change of the CA takes as long as its slowest agent is away."""
SKEW_SECONDS: Final = 30.0
"""Statements are valid from the moment they are made; agents allow for some minutes."""
ANSWER_SECONDS: Final = 5.0
BUNDLES: Final = 10_000
"""So many are looked for: in a folder a second or two."""
LOOK_SECONDS: Final = 10.0
"""And so long: a bucket is asked over the network for each."""


@dataclass(slots=True)
class Doctor:
    """
    Examines one relay.

    Args:
        settings: As the relay gets them; its URLs may be empty.
        clock: Seconds since the epoch.
    """

    settings: Settings
    clock: Callable[[], float] = time.time
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_well(self) -> bool:
        """Whether everything passed."""
        return all(finding.passed for finding in self.findings)

    def examine(self) -> None:
        """Look at everything, in the order in which a start needs it."""
        self._examine_folder()
        self._examine_secrets()
        self._examine_authority()
        self._examine_database()
        self._examine_serving()

    def _pass(self, subject: str, found: str) -> None:
        self.findings.append(Finding(subject, passed=True, found=found))

    def _fail(self, subject: str, found: str, remedy: str) -> None:
        self.findings.append(Finding(subject, passed=False, found=found, remedy=remedy))

    # What is on the disk.

    def _examine_folder(self) -> None:
        folder = self.settings.data_dir
        if not folder.exists():
            if os.access(folder.absolute().parent, os.W_OK | os.X_OK):
                self._pass("data directory", f"{folder} is not there yet; the first start makes it")
            else:
                self._fail("data directory", f"{folder} cannot be made", "make it, owned by the relay's user")
            return
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            self._fail("data directory", f"no right to write in {folder}", "give it to the relay's user")
            return
        free = shutil.disk_usage(folder).free
        found = f"{folder}, {free >> 20:,} MiB free"
        if free < FREE_BYTES:
            self._fail("data directory", found, "make room: a full disk stops every deployment, and loses none")
        else:
            self._pass("data directory", found)

    def _examine_secrets(self) -> None:
        """Keys must be readable by their owner alone."""
        folder = self.settings.data_dir
        # A mounted Secret's files are the group's, too: that of the pod alone.
        keys = 0o007 if self.settings.authority_dir else 0o077
        secrets = {path: keys for path in authority_files(self.settings.authority) if path.suffix == ".key"}
        present = {path: mask for path, mask in {folder / "server.pem": 0o077, **secrets}.items() if path.exists()}
        open_to_others = [path for path, mask in present.items() if stat.S_IMODE(path.stat().st_mode) & mask]
        if open_to_others:
            named = ", ".join(map(str, open_to_others))
            self._fail("keys", f"others may read {named}", f"chmod 600 {' '.join(map(str, open_to_others))}")
        elif present:
            self._pass("keys", f"{len(present)} files, readable by their owner alone")

    def _examine_authority(self) -> None:
        folder = self.settings.authority
        if not folder.exists():
            self._pass("authority", "none yet; the first start makes it, unless 'fairlead-relay ca use' did before")
            return
        try:
            authority = CertificateAuthority(folder, self.clock)
        except AuthorityDamaged as error:
            self._fail("authority", error.reason, f"restore {folder} from a backup")
            return
        first = min(authority.root, authority.issuing, key=lambda one: one.not_valid_after_utc)
        left = first.not_valid_after_utc.timestamp() - self.clock()
        found = f"generation {authority.generations[-1].number}, valid for {int(left / 86_400)} days"
        if len(authority.generations) > 1:
            found += f"; {len(authority.generations) - 1} before it still count, until 'fairlead-relay ca finish'"
        if left < AUTHORITY_SECONDS:
            self._fail("authority", found, "change it now: 'fairlead-relay ca rotate', see operate.md")
        else:
            self._pass("authority", found)

    # The store.

    def _examine_database(self) -> None:
        if not self.settings.database_url and not self.settings.data_dir.exists():
            self._pass("database", "an SQLite file in the data directory; the first start makes it")
            return
        try:
            url = parse_url(self.settings.database)
            check_place(url)
        except StoreError as error:
            self._fail("database", str(error), "see FAIRLEAD_RELAY_DATABASE_URL and --data-dir")
            return
        if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).exists():
            self._pass("database", f"{url.database} is not there yet; the first start makes it")
            return
        engine = reader_engine(url, 1)
        try:
            began = time.monotonic()
            with engine.connect() as connection, connection.begin():
                self._examine_schema(connection, time.monotonic() - began)
        except StoreDamaged as error:
            self._fail_damaged(error)
        except SQLAlchemyError as error:
            failed = translate(error)
            if isinstance(failed, StoreDamaged):
                self._fail_damaged(failed)
            else:
                self._fail("database", str(failed), "see that it runs, and lets this relay's user in")
        finally:
            engine.dispose()

    def _fail_damaged(self, error: StoreDamaged) -> None:
        self._fail("database", f"damaged: {error.reason}", error.remedy)

    def _examine_schema(self, connection: Connection, seconds: float) -> None:
        kind = connection.dialect.name
        schema = schema_of(connection)
        found = f"{kind}, schema {schema or 'none'}, answered in {seconds * 1000:.0f} ms"
        if schema is None:
            self._pass("database", f"{found}; the first start makes its tables")
            return
        if not can_use(connection):
            remedy = "run the version that made it, or restore an older backup"
            self._fail("database", f"{found}, of a newer relay", remedy)
            return
        if kind == "sqlite":
            check_file(connection)
        elif not self._examine_server(connection, found):
            return
        self._pass("database", found if knows_schema(schema) else f"{found}, of a newer relay, which only added to it")
        if schema == newest_schema():
            self._examine_content(connection)
            self._examine_audit(connection)

    def _examine_server(self, connection: Connection, found: str) -> bool:
        """Look at what PostgreSQL alone can have wrong; tell whether it is well."""
        skew = self.clock() - float(
            connection.execute(select(func.extract("epoch", func.clock_timestamp()))).scalar_one()
        )
        if connection.scalar(select(func.pg_is_in_recovery())):
            self._fail("database", f"{found}; a standby, which cannot be written", "name the primary in the URL")
        elif abs(skew) > SKEW_SECONDS:
            remedy = "set both clocks by NTP; deadlines and leases are this relay's, replicas must agree on them"
            self._fail("database", f"{found}; its clock differs by {skew:.0f} s", remedy)
        else:
            return True
        return False

    def _examine_content(self, connection: Connection) -> None:
        known = connection.scalar(select(func.count(func.distinct(bundles.c.sha256)))) or 0
        hashes = connection.scalars(select(bundles.c.sha256).distinct().limit(BUNDLES))
        try:
            blobs = open_blobs(self.settings.blobs_url, self.settings.database, self.settings.data_dir / "blobs")
            with closing(blobs):
                until = time.monotonic() + LOOK_SECONDS
                present = {sha256: blobs.has(sha256) for sha256 in hashes if time.monotonic() < until}
        except StoreError as error:
            self._fail("bundles", str(error), "see FAIRLEAD_RELAY_BLOBS_URL")
            return
        missing = sorted(sha256 for sha256, is_there in present.items() if not is_there)
        if missing:
            named = ", ".join(sha256[:12] for sha256 in missing[:5])
            remedy = "put them back from a backup; until then deployments of these cannot be rolled back to"
            self._fail("bundles", f"{len(missing)} of {known} are gone: {named}", remedy)
        elif len(present) < known:
            self._pass("bundles", f"{known}, {len(present)} of them looked for and there")
        else:
            self._pass("bundles", f"{known}, all there")
        now = self.clock()
        counts = connection.execute(
            select(
                func.count(),
                func.count(agents.c.session_id),
                func.count().filter(agents.c.certificate_expires_at <= now, agents.c.revoked_at.is_(None)),
            )
        ).one()
        self._pass("agents", f"{counts[0]} enrolled, {counts[1]} connected, {counts[2]} with a certificate that lapsed")

    def _examine_audit(self, connection: Connection) -> None:
        """Prove the audit log, organization by organization, as far as the time allows."""
        names = connection.scalars(select(organizations.c.name).order_by(organizations.c.name)).all()
        until, records, proved = time.monotonic() + LOOK_SECONDS, 0, 0
        try:
            for name in names:
                if time.monotonic() < until:
                    records += check_chain(connection, name)[0]
                    proved += 1
        except AuditBroken as error:
            remedy = "somebody wrote into the database: compare it with a backup, and change who may do so"
            self._fail("audit log", str(error), remedy)
            return
        left = f"; {len(names) - proved} organizations were not looked at" if proved < len(names) else ""
        self._pass("audit log", f"{records:,} records, each as it was written{left}")

    # The ports.

    def _examine_serving(self) -> None:
        ready = self.settings.data_dir / "ready.json"
        try:
            serves = json.loads(ready.read_bytes())
        except (OSError, ValueError):
            for subject, address in (("API", self.settings.api_listen), ("agent port", self.settings.agent_listen)):
                self._examine_address(subject, address)
            return
        self._examine_api(serves)
        self._examine_agent_port(serves)

    def _examine_address(self, subject: str, address: str) -> None:
        host, port = parse_listen(address)
        try:
            socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
        except OSError as error:
            remedy = "end what listens there, or choose another with --api-listen, --agent-listen"
            self._fail(subject, f"{address}: {os.strerror(error.errno or 0)}", remedy)
        else:
            self._pass(subject, f"the relay does not serve; {address} is free")

    def _examine_api(self, serves: dict[str, Any]) -> None:
        parts = urlsplit(serves["api_url"])
        host, port = _dialled(serves["api_listen"])
        try:
            with self._connected(host, port, parts.hostname if self.settings.api_tls else None) as (plain, found):
                connection = http.client.HTTPConnection(host, port, timeout=ANSWER_SECONDS)
                connection.sock = plain
                connection.request("GET", "/readyz", headers={"Host": parts.netloc})
                answer = connection.getresponse()
                status, body = answer.status, answer.read(10_000)
        except (OSError, http.client.HTTPException, RelayError) as error:
            remedy = f"the relay's log says more; its process was {serves.get('pid')}"
            self._fail("API", f"{serves['api_url']}: {error}", remedy)
            return
        if status != http.HTTPStatus.OK:
            self._fail("API", f"not ready ({status}): {_detail(body)}", "see the database, and the relay's log")
        else:
            self._pass("API", f"{serves['api_url']} is ready{found}")

    def _examine_agent_port(self, serves: dict[str, Any]) -> None:
        agent_url = serves["agent_url"]
        host, port = _dialled(serves["agent_listen"])
        try:
            with self._connected(host, port, urlsplit(agent_url).hostname) as (_, found):
                self._pass("agent port", f"{agent_url} answers{found}")
        except (OSError, RelayError) as error:
            remedy = "see the relay's log, and that --server-name has every name agents dial"
            self._fail("agent port", f"{agent_url}: {error}", remedy)

    @contextmanager
    def _connected(self, host: str, port: int, name: str | None) -> Iterator[tuple[socket.socket, str]]:
        """Connect, by TLS against the own root unless no name is given; yields the socket and a phrase on it."""
        with socket.create_connection((host, port), ANSWER_SECONDS) as plain:
            if name is None:
                yield plain, ", without TLS"
                return
            authority = CertificateAuthority(self.settings.authority, self.clock)
            context = ssl.create_default_context(cadata=authority.root_pem)
            with context.wrap_socket(plain, server_hostname=name) as secure:
                presented = x509.load_der_x509_certificate(secure.getpeercert(binary_form=True) or b"")
                left = presented.not_valid_after_utc.timestamp() - self.clock()
                yield secure, f", with a certificate for {int(left / 86_400)} days"


def _dialled(listen: str) -> tuple[str, int]:
    """Return how to dial an own port from here: its URL may lead through an ingress, or nowhere from inside."""
    host, port = parse_listen(listen)
    return {"0.0.0.0": "127.0.0.1", "::": "localhost"}.get(host, host), port  # noqa: S104  (compared, not bound)


def _detail(body: bytes) -> str:
    try:
        return str(json.loads(body)["detail"])[:200]
    except (ValueError, KeyError, TypeError):
        return "it says nothing of why"
