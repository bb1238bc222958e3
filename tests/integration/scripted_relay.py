"""
A relay in a few lines, over real TLS: a throwaway CA, the shared session, and jobs in memory. For tests of the agent.

It keeps what a store would keep (events by number and key, what is acknowledged), so that a test can stop it, lose its
connections, and look at what arrived exactly once.
"""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import ipaddress
import secrets
import ssl
import tempfile
import time
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import NameOID
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from fairlead_shared.bundle import Bundle
from fairlead_shared.enrolment import EnrolmentToken
from fairlead_shared.envelope import sign
from fairlead_shared.errors import ErrorCode
from fairlead_shared.frames import (
    CaAnswer,
    CaRequest,
    CertificateIssued,
    CertificateRequest,
    Challenge,
    ChallengeRequest,
    DriftAck,
    DriftReport,
    Enrol,
    Enrolled,
    Error,
    GoAway,
    Heartbeat,
    HeartbeatAck,
    Hello,
    JobAccept,
    JobCancel,
    JobOffer,
    JobRefuse,
    JobVerdict,
    Message,
    Progress,
    Rejoin,
    Unsupported,
    Welcome,
)
from fairlead_shared.identity import CLOCK_SKEW_SECONDS, certificate_fingerprint
from fairlead_shared.progress import ProgressEvent, ResultEvent
from fairlead_shared.rejoin import is_proof
from fairlead_shared.session import Phase, Received, Session, Side
from fairlead_shared.statement import PAYLOAD_TYPE, DeploymentStatement, Strategy
from fairlead_shared.transfers import TransferCredit, TransferWanted
from tests.polling import eventually
from tests.ports import HeldPort

ORGANIZATION, CLUSTER = "acme", "blue"


class ThrowawayCa:
    """A root that issues what a test needs."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "throwaway root")])
        self.root = (
            self._builder(self.key, name, name, 86_400)
            .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        self.root_pem = self.root.public_bytes(serialization.Encoding.PEM).decode()

    def issue_agent(self, csr_pem: str, life_seconds: float, cluster: str = CLUSTER) -> str:
        """Issue an agent's certificate for the key of a request."""
        request = x509.load_pem_x509_csr(csr_pem.encode())
        assert request.is_signature_valid
        uri = x509.UniformResourceIdentifier(f"fairlead://{ORGANIZATION}/{cluster}/default")
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "agent")])
        certificate = (
            self._builder(request.public_key(), subject, self.root.subject, life_seconds)
            .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM).decode()

    def server_context(self, addresses: tuple[str, ...]) -> ssl.SSLContext:
        """Return the agent port's context: TLS 1.3, a client certificate asked for and not required."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relay")])
        names = [x509.DNSName("localhost"), *(x509.IPAddress(ipaddress.ip_address(one)) for one in addresses)]
        certificate = (
            self._builder(key.public_key(), subject, self.root.subject, 86_400)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=self.root_pem)
        with tempfile.NamedTemporaryFile() as file:
            file.write(
                key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
            file.write(certificate.public_bytes(serialization.Encoding.PEM))
            file.flush()
            context.load_cert_chain(file.name)
        return context

    def _builder(
        self,
        key: ec.EllipticCurvePrivateKey | CertificatePublicKeyTypes,
        subject: x509.Name,
        issuer: x509.Name,
        life: float,
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key() if isinstance(key, ec.EllipticCurvePrivateKey) else key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(seconds=CLOCK_SKEW_SECONDS))
            .not_valid_after(now + dt.timedelta(seconds=life))
        )


@dataclass
class StoredJob:
    """A job as a relay's store has it."""

    offer: JobOffer
    accepted: bool = False
    refusal: JobRefuse | None = None
    acknowledged: int = 0
    events: list[ProgressEvent] = field(default_factory=list)
    """Each key once, in the order of their numbers."""
    sequences: list[int] = field(default_factory=list)
    """Every number stored, also those of known keys."""
    known: set[str] = field(default_factory=set)
    """Their keys."""
    cancel: str = ""
    """Verdict that a reconnecting agent gets instead of `continue`."""

    @property
    def result(self) -> ResultEvent | None:
        """The result, if it arrived."""
        last = self.events[-1] if self.events else None
        return last if isinstance(last, ResultEvent) else None

    def keys(self) -> list[str]:
        """Return the keys of the stored events."""
        return [event.key for event in self.events]


class ScriptedRelay:
    """
    The relay's agent port.

    Args:
        addresses: IP addresses its certificate names.
    """

    def __init__(self, addresses: tuple[str, ...] = ("127.0.0.1",)) -> None:
        self.ca = ThrowawayCa()
        self.signer = Ed25519PrivateKey.generate()
        self.jobs: dict[str, StoredJob] = {}
        self.bundles: dict[str, bytes] = {}
        self.hellos: list[Hello] = []
        self.heartbeats: list[Heartbeat] = []
        self.rejoins: list[Rejoin] = []
        self.messages: list[Message] = []
        self.drift: list[DriftReport] = []
        self.acknowledges_drift = True
        self.knows_drift = True
        """False: it is of a version before drift."""
        self.certificate_seconds = 3600.0
        self.heartbeat_seconds = 1.0
        self.lost_leases: set[str] = set()
        """Jobs whose leases are not renewed."""
        self.drop_after_events: int | None = None
        """Abort the connection each time so many events were stored on it."""
        self.drop_after_bytes: int | None = None
        """Abort the connection once, after so many bytes of bulk."""
        self.refuse_hello: ErrorCode | None = None
        """Also what rejoins are refused with."""
        self.refuse_rejoin: ErrorCode | None = None
        self.approval = ""
        """What enrolments are told to wait for."""
        self.port = 0
        self._addresses = addresses
        self._tokens: dict[str, tuple[str, float, bytes | None]] = {}
        self._server: Server | None = None
        self._connection: _AgentConnection | None = None
        self._issued_tokens = 0

    @property
    def url(self) -> str:
        """Address for agents on this host."""
        return f"wss://{self._addresses[0]}:{self.port}"

    @property
    def is_connected(self) -> bool:
        """Whether an agent got its welcome."""
        return self._connection is not None and self._connection.session.phase is Phase.OPEN

    async def start(self) -> None:
        """Listen; on the same port again after a stop."""
        context = self.ca.server_context(self._addresses)
        self.port = self.port or HeldPort("0.0.0.0").number
        self._server = await serve(
            self._handle,
            "0.0.0.0",
            self.port,
            ssl=context,
            compression=None,
            subprotocols=["fairlead.v1"],  # type: ignore[list-item]  # a NewType of str
            ping_interval=None,
        )

    async def stop(self) -> None:
        """Stop as a killed process does: connections just end."""
        if self._server is not None:
            self.drop()
            self._server.close(close_connections=True)
            await self._server.wait_closed()
            self._server = None

    def drop(self) -> None:
        """Abort the agent's connection."""
        if self._connection is not None:
            self._connection.websocket.transport.abort()

    def token(self, life_seconds: float = 600, root: x509.Certificate | None = None) -> str:
        """Make an enrolment token."""
        self._issued_tokens += 1
        token_id = f"token{self._issued_tokens:011d}"
        secret = base64.b32encode(secrets.token_bytes(20)).decode().lower()
        token = EnrolmentToken(token_id, secret, certificate_fingerprint(root or self.ca.root))
        self._tokens[token_id] = (token.secret_hash(), time.time() + life_seconds, None)
        return token.to_text()

    def statement(self, bundle: Bundle, deployment_id: str, **changes: Any) -> DeploymentStatement:  # noqa: ANN401  (fields of a model)
        """Make a statement for environment acme/shop/staging in namespace shop."""
        fields: dict[str, Any] = {
            "deployment_id": deployment_id,
            "organization": ORGANIZATION,
            "application": "shop",
            "environment": "staging",
            "environment_type": "staging",
            "cluster": CLUSTER,
            "namespaces": ("shop",),
            "bundle_sha256": bundle.sha256,
            "previous_bundle_sha256": None,
            "strategy": Strategy.ALL_AT_ONCE,
            "not_before": int(time.time()),
            "expires": int(time.time()) + 3600,
            "rollback": False,
        }
        return DeploymentStatement(**{**fields, **changes})

    def deploy(
        self,
        job_id: str,
        bundle: Bundle,
        statement: DeploymentStatement | None = None,
        **changes: Any,  # noqa: ANN401  (fields of a model)
    ) -> StoredJob:
        """Queue a deploy job; it is offered at once if an agent is connected."""
        self.bundles[bundle.sha256] = bundle.content
        statement = statement or self.statement(bundle, f"d{job_id:0>25}")
        fields: dict[str, Any] = {
            "job_id": job_id,
            "attempt": 1,
            "token": len(self.jobs) + 1,
            "job_kind": "deploy",
            "lease_seconds": 30,
            "deadline": time.time() + 600,
            "statement": sign(PAYLOAD_TYPE, statement.to_bytes(), self.signer),
            "bundle_bytes": len(bundle.content),
        }
        return self.offer(JobOffer(**{**fields, **changes}))

    def offer(self, offer: JobOffer) -> StoredJob:
        """Queue any job."""
        job = self.jobs[offer.job_id] = StoredJob(offer)
        if self._connection is not None:
            self._connection.offer(job)
        return job

    def cancel(self, job_id: str, *, superseded: bool = False) -> None:
        """Ask for a job to stop, now or at the next hello."""
        job = self.jobs[job_id]
        job.cancel = "supersede" if superseded else "cancel"
        self.send(JobCancel(job_id=job_id, token=job.offer.token, superseded=superseded))

    def send(self, message: Message) -> None:
        """Send a message if there is a session."""
        if self._connection is not None and self.is_connected:
            self._connection.session.send(message)
            self._connection.flush_soon()

    def go_away(self, retry_after_seconds: float = 0) -> None:
        """Ask the agent to reconnect."""
        self.send(GoAway(reason="a test drains", retry_after_seconds=retry_after_seconds))

    async def until_connected(self, hellos: int = 1) -> None:
        """Wait for the agent's session."""

        async def connected() -> bool:
            return self.is_connected and len(self.hellos) >= hellos

        await eventually(connected, f"hello {hellos} and its welcome")

    async def until_result(self, job_id: str) -> ResultEvent:
        """Wait for a job's result."""

        async def arrived() -> ResultEvent | None:
            return self.jobs[job_id].result

        result = await eventually(arrived, f"the result of {job_id}")
        assert result is not None
        return result

    async def until_refused(self, job_id: str) -> JobRefuse:
        """Wait for a job's refusal."""

        async def arrived() -> JobRefuse | None:
            return self.jobs[job_id].refusal

        refusal = await eventually(arrived, f"the refusal of {job_id}")
        assert refusal is not None
        return refusal

    async def _handle(self, websocket: ServerConnection) -> None:
        connection = _AgentConnection(self, websocket)
        await connection.run()
        if self._connection is connection:
            self._connection = None

    def _answer(self, message: Message) -> Message:
        """Answer what is about certificates."""
        match message:
            case CaRequest():
                return CaAnswer(root_pem=self.ca.root_pem)
            case Enrol():
                return self._answer_enrol(message)
            case ChallengeRequest():
                return Challenge(nonce="ab" * 32, at=time.time())
            case Rejoin():
                return self._answer_rejoin(message)
            case CertificateRequest():
                issued = self.ca.issue_agent(message.csr_pem, self.certificate_seconds)
                return CertificateIssued(certificate_pem=issued, root_pem=self.ca.root_pem)
            case _:
                raise AssertionError(message)

    def _answer_enrol(self, message: Enrol) -> Message:
        known = self._tokens.get(message.token_id)
        token = EnrolmentToken(message.token_id, message.secret, "0" * 64)
        if known is None or known[0] != token.secret_hash():
            return Error(code=ErrorCode.TOKEN_INVALID, message="this token is not known here")
        public = x509.load_pem_x509_csr(message.csr_pem.encode()).public_key()
        raw = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        if known[1] < time.time():
            return Error(code=ErrorCode.TOKEN_EXPIRED, message="this token has expired")
        if known[2] not in (None, raw):
            return Error(code=ErrorCode.TOKEN_INVALID, message="this token was used by another agent")
        self._tokens[message.token_id] = (known[0], known[1], raw)
        if self.approval:
            return Error(code=ErrorCode.APPROVAL_PENDING, message=self.approval)
        return Enrolled(
            certificate_pem=self.ca.issue_agent(message.csr_pem, self.certificate_seconds),
            root_pem=self.ca.root_pem,
            relay_signer=base64.b64encode(self.signer.public_key().public_bytes_raw()).decode(),
        )

    def _answer_rejoin(self, message: Rejoin) -> Message:
        self.rejoins.append(message)
        if (refusal := self.refuse_rejoin or self.refuse_hello) is not None:
            return Error(code=refusal, message="a test says so")
        shown = x509.load_pem_x509_certificates(message.certificate_pem.encode())[0]
        assert is_proof(shown.public_key(), "ab" * 32, message.csr_pem, message.signature)
        if shown.issuer != self.ca.root.subject:
            return Error(code=ErrorCode.UNAUTHORIZED, message="not from a CA of mine")
        issued = self.ca.issue_agent(message.csr_pem, self.certificate_seconds)
        return CertificateIssued(certificate_pem=issued, root_pem=self.ca.root_pem)

    def _verdict(self, job_id: str, token: int) -> JobVerdict:
        job = self.jobs.get(job_id)
        if job is None or job.offer.token != token or job.refusal is not None:
            return JobVerdict(job_id=job_id, verdict="abandon", acknowledged_seq=0)
        job.accepted = True
        verdict: Any = job.cancel or "continue"
        return JobVerdict(job_id=job_id, verdict=verdict, acknowledged_seq=job.acknowledged)

    def _welcome(self, hello: Hello) -> Welcome:
        return Welcome(
            version=1,
            session_id=f"session-{len(self.hellos)}",
            relay_version="0",
            store_epoch="1",
            heartbeat_seconds=self.heartbeat_seconds,
            reconnect_window_seconds=1,
            at=time.time(),
            jobs=tuple(self._verdict(job.job_id, job.token) for job in hello.jobs),
        )


class _AgentConnection:
    """One connection, driven by the shared session."""

    def __init__(self, relay: ScriptedRelay, websocket: ServerConnection) -> None:
        self.relay = relay
        self.websocket = websocket
        self.session = Session(Side.RELAY, time.monotonic())
        self._served: dict[int, tuple[bytes, int]] = {}
        self._stored = 0
        self._sent_bytes = 0
        self._flushes: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()

    async def run(self) -> None:
        """Serve until either side ends it."""
        try:
            async for content in self.websocket:
                assert isinstance(content, bytes)
                self.session.receive_frame(content, time.monotonic())
                for event in self.session.events():
                    self._take(event)
                await self._flush()
                if self.session.phase is Phase.CLOSED:
                    return
        except ConnectionClosed:
            pass
        finally:
            self.session.connection_lost("gone")

    def flush_soon(self) -> None:
        """Write what is queued, outside a read."""
        task = asyncio.create_task(self._flush())
        self._flushes.add(task)
        task.add_done_callback(self._flushes.discard)

    def offer(self, job: StoredJob) -> None:
        """Offer a job if the session is open."""
        if self.session.phase is Phase.OPEN:
            self.session.send(job.offer)
            self.session.expect_stream(job.offer.job_id, job.acknowledged)
            self.flush_soon()

    async def _flush(self) -> None:
        try:
            async with self._lock:
                while frames := self.session.data_to_send():
                    for frame in frames:
                        await self.websocket.send(frame)
                        self._count(frame)
                    for transfer in list(self._served):
                        self._fill(transfer)
        except ConnectionClosed:
            pass

    def _count(self, frame: bytes) -> None:
        if frame[:1] == b"\x01":
            self._sent_bytes += len(frame)
            if self.relay.drop_after_bytes is not None and self._sent_bytes > self.relay.drop_after_bytes:
                self.relay.drop_after_bytes = None
                self.websocket.transport.abort()

    def _take(self, event: object) -> None:
        match event:
            case Received(message):
                self.relay.messages.append(message)
                self._take_message(message)
            case TransferWanted(transfer, sha256, offset):
                content = self.relay.bundles.get(sha256)
                if content is None:
                    self.session.refuse_bulk(transfer, ErrorCode.BUNDLE_UNAVAILABLE, "no such bundle")
                else:
                    self._served[transfer] = (content, offset)
                    self._fill(transfer)
            case TransferCredit(transfer):
                self._fill(transfer)
            case _:
                pass

    def _fill(self, transfer: int) -> None:
        if transfer not in self._served:
            return
        content, offset = self._served[transfer]
        payload = content[offset : offset + self.session.bulk_room(transfer)]
        self.session.send_bulk(transfer, payload)
        self._served[transfer] = (content, offset + len(payload))
        if offset + len(payload) == len(content):
            del self._served[transfer]
            self.session.end_bulk(transfer, len(content))

    def _take_message(self, message: Message) -> None:
        certified = bool(self.websocket.transport.get_extra_info("peercert"))
        match message:
            case CaRequest() | Enrol() | ChallengeRequest() | Rejoin() | CertificateRequest():
                self.session.send(self.relay._answer(message))
            case Hello() if not certified:
                self.session.close(ErrorCode.UNAUTHORIZED, "a certificate is needed")
            case Hello():
                self._greet(message)
            case Heartbeat():
                self.relay.heartbeats.append(message)
                renewed = tuple(job.job_id for job in message.jobs if job.job_id not in self.relay.lost_leases)
                self.session.send(HeartbeatAck(number=message.number, lease_seconds=30, renewed=renewed))
            case JobAccept():
                self.relay.jobs[message.job_id].accepted = True
            case JobRefuse():
                self.relay.jobs[message.job_id].refusal = message
            case Progress():
                self._store(message)
            case DriftReport():
                self._take_drift(message)
            case _:
                pass

    def _take_drift(self, report: DriftReport) -> None:
        self.relay.drift.append(report)
        if not self.relay.knows_drift:
            self.session.send(Unsupported(unknown=report.kind))
        elif self.relay.acknowledges_drift:
            self.session.send(DriftAck(environment=report.environment, revision=report.revision))

    def _greet(self, hello: Hello) -> None:
        self.relay.hellos.append(hello)
        if self.relay.refuse_hello is not None:
            self.session.close(self.relay.refuse_hello, "a test says so")
            return
        self.relay._connection = self
        welcome = self.relay._welcome(hello)
        self.session.send(welcome)
        listed = {verdict.job_id for verdict in welcome.jobs if verdict.verdict != "abandon"}
        for job in self.relay.jobs.values():
            if job.result is None and job.refusal is None and job.offer.job_id not in listed:
                if job.accepted:
                    offer = job.offer
                    fresh = {"attempt": offer.attempt + 1, "token": offer.token + 100}
                    job.offer = offer.model_copy(update={**fresh, "acknowledged_seq": job.acknowledged})
                self.offer(job)

    def _store(self, message: Progress) -> None:
        job = self.relay.jobs[message.job_id]
        assert message.token == job.offer.token
        job.sequences.append(message.seq)
        if message.event.key not in job.known:
            job.known.add(message.event.key)
            job.events.append(message.event)
        job.acknowledged = message.seq
        self._stored += 1
        limit = self.relay.drop_after_events
        if limit is not None and self._stored >= limit:
            # Stored and never acknowledged: what a crash between the two looks like.
            self.websocket.transport.abort()
            self.session.connection_lost("aborted")
            return
        self.session.acknowledge(message.job_id, message.seq)
