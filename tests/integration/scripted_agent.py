"""
A tiny agent for tests of the relay: the real session over a real connection, and no cluster behind it.

Tests script what it says. It checks what a real agent checks of the relay (its certificate, the CA's fingerprint,
statement signatures), so that a relay that satisfies it satisfies a real one.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from fairlead_shared import envelope
from fairlead_shared.enrolment import EnrolmentToken
from fairlead_shared.frames import (
    CaAnswer,
    CaRequest,
    CertificateIssued,
    CertificateRequest,
    CertificateStored,
    Challenge,
    ChallengeRequest,
    Enrol,
    Enrolled,
    Heartbeat,
    HeartbeatAck,
    HeartbeatJob,
    Hello,
    HelloJob,
    JobAccept,
    JobOffer,
    Message,
    Progress,
    Rejoin,
    Welcome,
)
from fairlead_shared.identity import certificate_fingerprint
from fairlead_shared.progress import Action, Outcome, ProgressEvent, ResultEvent, Step, StepEvent
from fairlead_shared.rejoin import sign_proof
from fairlead_shared.session import (
    Acknowledged,
    Closed,
    Event,
    HeartbeatDue,
    Opened,
    Received,
    Session,
    Side,
)
from fairlead_shared.statement import PAYLOAD_TYPE, DeploymentStatement
from fairlead_shared.transfers import ChunkReceived, TransferEnded
from tests.polling import PATIENCE_SECONDS

Kind = TypeVar("Kind")


def make_request(key: ec.EllipticCurvePrivateKey) -> str:
    """Return a certificate signing request; what it asks for besides the key is ignored."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def unverified_context() -> ssl.SSLContext:
    """Return the context of the very first connection, which only fetches the CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@contextlib.asynccontextmanager
async def open_wire(url: str, context: ssl.SSLContext) -> AsyncIterator[AgentWire]:
    """Connect to an agent port."""
    async with connect(
        f"{url}/v1/agent", ssl=context, subprotocols=[Subprotocol("fairlead.v1")], compression=None, ping_interval=None
    ) as websocket:
        wire = AgentWire(websocket)
        try:
            yield wire
        finally:
            await wire.close()


class SessionEnded(Exception):
    """A session was closed while a test waited for something else."""

    def __init__(self, closed: Closed) -> None:
        super().__init__(closed)
        self.closed = closed


class AgentWire:
    """One connection: the agent's side of the session, driven from a task of its own."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.session = Session(Side.AGENT, time.monotonic())
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.leases: dict[str, int] = {}
        """Job id → token, renewed by each heartbeat."""
        self._skipped: list[Event] = []
        self._websocket = websocket
        self._retime = asyncio.Event()
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._keep_time())]

    async def send(self, message: Message) -> None:
        """Send a message that is not numbered."""
        self.session.send(message)
        await self.flush()

    async def flush(self) -> None:
        """Write what the session has to send."""
        with contextlib.suppress(ConnectionClosed):
            while frames := self.session.data_to_send():
                for frame in frames:
                    await self._websocket.send(frame)

    async def send_raw(self, frame: bytes | str) -> None:
        """Write bytes that no session would."""
        await self._websocket.send(frame)

    async def wait_transfer(self) -> ChunkReceived | TransferEnded:
        """Return the next piece of a transfer, or its end."""
        return await self._wait((ChunkReceived, TransferEnded))

    async def wait_event(self, kind: type[Kind]) -> Kind:
        """
        Return the next event of a kind; those before it are kept for later waits.

        Raises: SessionEnded: the session was closed, and nobody waited for that.
        """
        return await self._wait((kind,))

    async def _wait(self, kinds: tuple[type[Kind], ...]) -> Kind:
        for event in self._skipped:
            if isinstance(event, kinds):
                self._skipped.remove(event)
                return event
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not isinstance(event := await self.events.get(), kinds):
                self._skipped.append(event)
                if isinstance(event, Closed):
                    raise SessionEnded(event)
        return event

    async def wait_message(self, kind: type[Kind]) -> Kind:
        """Return the next message of a kind; heartbeats and their answers are passed over."""
        while True:
            event = await self.wait_event(Received)
            if isinstance(event.message, kind):
                return event.message
            assert isinstance(event.message, HeartbeatAck), f"waited for {kind.__name__}, got {event.message!r}"

    async def wait_closed(self) -> Closed:
        """Return why the relay ended the session."""
        return await self.wait_event(Closed)

    async def wait_acknowledged(self, job_id: str, seq: int) -> None:
        """Wait until the relay has stored a job's events up to a number."""
        while True:
            event = await self.wait_event(Acknowledged)
            if event.job_id == job_id and event.seq >= seq:
                return

    async def close(self) -> None:
        """End the connection politely."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._websocket.close()

    def abort(self) -> None:
        """Drop the connection as a dead network would, without a word."""
        self._websocket.transport.abort()

    async def _read(self) -> None:
        try:
            while True:
                content = await self._websocket.recv()
                assert isinstance(content, bytes)
                self.session.receive_frame(content, time.monotonic())
                await self._deliver()
        except ConnectionClosed:
            self.session.connection_lost("connection lost")
            await self._deliver()

    async def _deliver(self) -> None:
        for event in self.session.events():
            if isinstance(event, HeartbeatDue):
                self.beat()
            else:
                self.events.put_nowait(event)
            if isinstance(event, Opened):
                self._retime.set()  # heartbeats begin
        await self.flush()

    def beat(self) -> None:
        """Queue a heartbeat that renews every lease."""
        jobs = tuple(HeartbeatJob(job_id=job_id, token=token) for job_id, token in self.leases.items())
        self.session.heartbeat(lambda number: Heartbeat(number=number, jobs=jobs))

    async def _keep_time(self) -> None:
        while (deadline := self.session.next_deadline()) is not None:
            self._retime.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    await self._retime.wait()
                    continue
            self.session.receive_timeout(time.monotonic())
            await self._deliver()


@dataclass
class ScriptedAgent:
    """An enrolled agent, which can connect as often as a test likes."""

    url: str
    root_pem: str
    certificate_pem: str
    key: ec.EllipticCurvePrivateKey
    relay_signer: str
    sealing_key: X25519PrivateKey = field(default_factory=X25519PrivateKey.generate)

    @classmethod
    async def enrol(cls, url: str, token_text: str, key: ec.EllipticCurvePrivateKey | None = None) -> ScriptedAgent:
        """
        Enrol as a real agent does: pin the CA by the token's fingerprint, then send the request.

        Raises: SessionEnded: the relay said no.
        """
        token = EnrolmentToken.parse(token_text)
        async with open_wire(url, unverified_context()) as wire:
            await wire.send(CaRequest(fingerprint=token.ca_fingerprint))
            root_pem = (await wire.wait_message(CaAnswer)).root_pem
        root = x509.load_pem_x509_certificate(root_pem.encode())
        assert certificate_fingerprint(root) == token.ca_fingerprint
        key = key or ec.generate_private_key(ec.SECP256R1())
        sealing_key = X25519PrivateKey.generate()
        async with open_wire(url, ssl.create_default_context(cadata=root_pem)) as wire:
            request = Enrol(
                token_id=token.token_id,
                secret=token.secret,
                csr_pem=make_request(key),
                sealing_key=base64.b64encode(sealing_key.public_key().public_bytes_raw()).decode(),
            )
            await wire.send(request)
            enrolled = await wire.wait_message(Enrolled)
        return cls(url, enrolled.root_pem, enrolled.certificate_pem, key, enrolled.relay_signer, sealing_key)

    async def rejoin(
        self, certificate_pem: str | None = None, signer: ec.EllipticCurvePrivateKey | None = None
    ) -> ScriptedAgent:
        """
        Prove the key without showing the certificate to TLS, and return the agent with its new certificate.

        Args:
            certificate_pem: Another than its own.
            signer: Another key than the certificate's.
        Raises: SessionEnded: the relay said no.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        csr_pem = make_request(key)
        async with open_wire(self.url, ssl.create_default_context(cadata=self.root_pem)) as wire:
            await wire.send(ChallengeRequest())
            nonce = (await wire.wait_message(Challenge)).nonce
            proof = sign_proof(signer or self.key, nonce, csr_pem)
            shown = certificate_pem or self.certificate_pem
            await wire.send(Rejoin(certificate_pem=shown, csr_pem=csr_pem, signature=proof))
            issued = await wire.wait_message(CertificateIssued)
        return replace(self, key=key, certificate_pem=issued.certificate_pem, root_pem=issued.root_pem)

    def context(self) -> ssl.SSLContext:
        """Return a context that trusts the relay's root and shows the agent's certificate."""
        context = ssl.create_default_context(cadata=self.root_pem)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "agent.pem"
            encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
            key = self.key.private_bytes(encoding, form, serialization.NoEncryption())
            file.write_bytes(key + self.certificate_pem.encode())
            context.load_cert_chain(file)
        return context

    @contextlib.asynccontextmanager
    async def connect(self, jobs: Sequence[HelloJob] = ()) -> AsyncIterator[AgentConnection]:
        """Connect, say hello with the jobs the agent has, and wait for the welcome."""
        async with open_wire(self.url, self.context()) as wire:
            await wire.send(self.hello(jobs))
            welcome = (await wire.wait_event(Opened)).welcome
            yield AgentConnection(self, wire, welcome)

    def hello(self, jobs: Sequence[HelloJob] = ()) -> Hello:
        """Return the agent's first message."""
        return Hello(
            versions=(1, 1),
            agent_version="0.1.0",
            kubernetes_version="v1.36.0",
            replica="scripted-0",
            sealing_key=base64.b64encode(self.sealing_key.public_key().public_bytes_raw()).decode(),
            relay_signer=self.relay_signer,
            jobs=tuple(jobs),
        )


@dataclass
class AgentConnection:
    """An open session of a scripted agent."""

    agent: ScriptedAgent
    wire: AgentWire
    welcome: Welcome

    async def renew(self) -> ScriptedAgent:
        """Get a certificate for a new key over this connection, say that it is stored, and return the agent with it."""
        key = ec.generate_private_key(ec.SECP256R1())
        await self.wire.send(CertificateRequest(csr_pem=make_request(key)))
        issued = await self.wire.wait_message(CertificateIssued)
        leaf = x509.load_pem_x509_certificate(issued.certificate_pem.encode())
        await self.wire.send(CertificateStored(serial=f"{leaf.serial_number:x}"))
        return replace(self.agent, key=key, certificate_pem=issued.certificate_pem, root_pem=issued.root_pem)

    async def wait_offer(self) -> JobOffer:
        """Return the next offer, after checking that its statement is signed by the relay's key."""
        offer = await self.wire.wait_message(JobOffer)
        if offer.statement is not None:
            self.statement(offer)
        return offer

    def statement(self, offer: JobOffer) -> DeploymentStatement:
        """Return the verified statement of an offer."""
        assert offer.statement is not None
        trusted = {"relay": Ed25519PublicKey.from_public_bytes(base64.b64decode(self.agent.relay_signer))}
        payload, _ = envelope.verify(offer.statement, PAYLOAD_TYPE, trusted, 1)
        return DeploymentStatement.from_bytes(payload)

    async def accept(self, offer: JobOffer) -> None:
        """Take a job."""
        self.wire.leases[offer.job_id] = offer.token
        await self.wire.send(JobAccept(job_id=offer.job_id, attempt=offer.attempt, token=offer.token))
        self.wire.session.start_stream(offer.job_id, offer.acknowledged_seq)

    async def report(self, job_id: str, token: int, *events: ProgressEvent) -> int:
        """Send progress events with the next numbers, and return the last number."""
        seq = 0
        for event in events:
            seq = self.wire.session.next_seq(job_id)
            self.wire.session.send_progress(Progress(job_id=job_id, token=token, seq=seq, event=event))
        await self.wire.flush()
        return seq

    async def finish(
        self,
        job_id: str,
        token: int,
        outcome: Outcome = Outcome.SUCCEEDED,
        cause: str = "",
        counts: dict[Action, int] | None = None,
    ) -> None:
        """Send the result and wait until it is stored."""
        result = ResultEvent(key="result", at=time.time(), outcome=outcome, cause=cause, counts=counts or {})
        seq = await self.report(job_id, token, result)
        await self.wire.wait_acknowledged(job_id, seq)
        self.wire.session.end_stream(job_id)
        self.wire.leases.pop(job_id, None)

    async def fetch(self, sha256: str) -> bytes:
        """Fetch a bundle by its hash, and check it."""
        transfer = self.wire.session.fetch(sha256)
        await self.wire.flush()
        content = bytearray()
        while True:
            event = await self.wire.wait_transfer()
            if isinstance(event, TransferEnded):
                assert event.code is None, event
                break
            content += event.payload
            self.wire.session.grant(transfer, len(event.payload))
            await self.wire.flush()
        assert hashlib.sha256(content).hexdigest() == sha256
        return bytes(content)


def step(name: Step, status: str = "started") -> StepEvent:
    """Return a step event with a key that is unique in a job."""
    return StepEvent.model_validate({"key": f"step/{name}/{status}", "at": time.time(), "step": name, "status": status})
