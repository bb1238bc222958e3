"""Renewal: when it is due, and what happens to answers that do not come, do not fit or come late."""

import asyncio
import base64
import time

import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fairlead_agent import renewal as module
from fairlead_agent.identity_store import IdentityStore, signing_request
from fairlead_agent.renewal import Renewal
from fairlead_shared.frames import CertificateDue, CertificateIssued, CertificateRequest, CertificateStored, Message
from tests.integration.agent_state import MemoryState
from tests.integration.scripted_relay import ThrowawayCa
from tests.polling import eventually

HOUR = 3600.0


class World:
    """A stored identity with a certificate of one hour, a clock, and what was sent."""

    def __init__(self) -> None:
        self.ca = ThrowawayCa()
        self.identities = IdentityStore(MemoryState())
        self.now = time.time()
        self.sent: list[CertificateRequest] = []
        self.stored: list[str] = []
        self.renewal = Renewal(self.identities, self._send, structlog.get_logger(), lambda: self.now, lambda: 0.5)

    async def enrol(self) -> None:
        """Store a certificate that was issued just now."""
        identity = await self.identities.open()
        chain = self.ca.issue_agent(signing_request(identity.key), HOUR)
        signer = base64.b64encode(Ed25519PrivateKey.generate().public_key().public_bytes_raw()).decode()
        await self.identities.save_enrolled(chain, self.ca.root_pem, signer)

    def answer(self, request: CertificateRequest) -> CertificateIssued:
        """Issue what was asked for."""
        return CertificateIssued(certificate_pem=self.ca.issue_agent(request.csr_pem, HOUR), root_pem=self.ca.root_pem)

    def _send(self, message: Message) -> None:
        if isinstance(message, CertificateStored):
            self.stored.append(message.serial)
            return
        assert isinstance(message, CertificateRequest)
        self.sent.append(message)


async def test_certificate_is_valid_until_it_expires() -> None:
    """Without one there is nothing valid; with one, until its last second by this clock."""
    world = World()
    await world.identities.open()
    assert not world.renewal.has_valid_certificate
    await world.enrol()
    assert world.renewal.has_valid_certificate
    world.now += HOUR + 1
    assert not world.renewal.has_valid_certificate


async def test_renews_when_a_fifth_to_a_quarter_of_its_life_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before; an answer that does not come or does not fit is asked for again."""
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(module, "RETRY_SHARE", 0.0)
    world = World()
    await world.enrol()
    before = world.identities.current
    world.now += HOUR * (1 - 0.225) + 1
    task = asyncio.create_task(world.renewal.run())
    world.renewal.wake()

    async def asked(times: int) -> bool:
        return len(world.sent) >= times

    await eventually(lambda: asked(1), "the first request")
    stranger = ThrowawayCa()
    world.renewal.take(CertificateIssued(certificate_pem=before.certificate.chain_pem, root_pem=stranger.root_pem))  # type: ignore[union-attr]
    await eventually(lambda: asked(2), "another request")
    assert world.identities.current == before
    world.renewal.take(world.answer(world.sent[-1]))

    async def renewed() -> bool:
        return world.identities.current != before

    await eventually(renewed, "the renewed certificate")
    world.renewal.take(world.answer(world.sent[-1]))
    task.cancel()
    assert world.identities.current.sealing_public == before.sealing_public


async def test_nothing_is_asked_before_it_is_due() -> None:
    """With more than a quarter left nothing is sent."""
    world = World()
    await world.enrol()
    world.now += HOUR * 0.7
    task = asyncio.create_task(world.renewal.run())
    world.renewal.wake()
    for _ in range(5):
        await asyncio.sleep(0)
    assert world.sent == []
    task.cancel()


async def test_renews_when_the_relay_asks_and_says_that_it_stored_it() -> None:
    """A CA change moves the fleet without a reconnect; the relay learns when this agent has moved."""
    world = World()
    await world.enrol()
    task = asyncio.create_task(world.renewal.run())
    world.renewal.ask_within(CertificateDue(within_seconds=0))

    async def asked() -> bool:
        return len(world.sent) == 1

    await eventually(asked, "the request")
    world.renewal.take(world.answer(world.sent[0]))

    async def stored() -> bool:
        return len(world.stored) == 1

    await eventually(stored, "the word that it is stored")
    certificate = world.identities.current.certificate
    assert certificate is not None
    assert world.stored == [f"{certificate.leaf.serial_number:x}"]
    task.cancel()


async def test_a_request_that_was_lost_with_its_connection_is_made_again_on_the_next() -> None:
    """Not only when the answer is overdue: a short certificate would end first."""
    world = World()
    await world.enrol()
    world.now += HOUR * 0.9
    task = asyncio.create_task(world.renewal.run())

    async def asked(times: int) -> bool:
        return len(world.sent) >= times

    await eventually(lambda: asked(1), "the request")
    world.renewal.wake()
    await eventually(lambda: asked(2), "another")
    task.cancel()
