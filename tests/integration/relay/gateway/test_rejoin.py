"""Rejoin against a real store, with a clock that tests turn: by itself for 90 days, later by approval."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from sqlalchemy import Connection

from fairlead_relay.errors import AgentRefused
from fairlead_relay.gateway.credentials import Identities
from fairlead_relay.pki.authority import CertificateAuthority
from fairlead_relay.store import Store
from fairlead_relay.store.access import approve
from fairlead_relay.store.clusters import (
    EnrolmentGrant,
    create_cluster,
    create_enrolment_token,
    find_cluster,
)
from fairlead_relay.store.organizations import ensure_organization
from fairlead_shared.enrolment import EnrolmentToken
from fairlead_shared.errors import ErrorCode
from fairlead_shared.frames import Enrol, Rejoin
from fairlead_shared.identity import identity_fingerprint
from fairlead_shared.rejoin import WINDOW_SECONDS, sign_proof
from tests.integration.scripted_agent import make_request

NOW = 1_800_000_000.0
DAY = 86_400.0
TOKEN = EnrolmentToken("a" * 16, "b" * 32, "c" * 64)
NONCE = "ab" * 32


@dataclass
class World:
    """A relay's identities, its clock, and an agent's key and certificate."""

    folder: Path
    now: float = NOW
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    certificate_pem: str = ""

    def clock(self) -> float:
        """Return the time."""
        return self.now

    async def start(self) -> None:
        """Enrol the agent."""
        self.store = Store(f"sqlite:///{self.folder / 'relay.db'}", lambda *_: None)
        await self.store.start()
        self.identities = Identities.of(
            self.store, CertificateAuthority.open(self.folder / "pki", self.clock), self.clock
        )

        def prepare(connection: Connection) -> None:
            ensure_organization(connection, "acme", NOW)
            create_cluster(connection, "acme", "harbour", NOW)
            grant = EnrolmentGrant("acme", "harbour")
            create_enrolment_token(connection, grant, TOKEN.token_id, TOKEN.secret_hash(), NOW, NOW + 3600)

        await self.store.write(prepare)
        sealing = base64.b64encode(X25519PrivateKey.generate().public_key().public_bytes_raw()).decode()
        request = Enrol(
            token_id=TOKEN.token_id, secret=TOKEN.secret, csr_pem=make_request(self.key), sealing_key=sealing
        )
        self.certificate_pem = (await self.identities.enrolment.enrol(request))[1].certificate_pem

    async def rejoin(self) -> str:
        """Prove the key, and return the new certificate."""
        csr_pem = make_request(ec.generate_private_key(ec.SECP256R1()))
        proof = sign_proof(self.key, NONCE, csr_pem)
        request = Rejoin(certificate_pem=self.certificate_pem, csr_pem=csr_pem, signature=proof)
        identity, issued = await self.identities.rejoining.rejoin(request, NONCE)
        assert str(identity) == "acme/harbour/default"
        return issued.chain_pem


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Make an agent that enrolled just now."""
    made = World(tmp_path)
    await made.start()
    yield made
    await made.store.stop()


async def test_an_agent_may_rejoin_by_itself_for_ninety_days(world: World) -> None:
    """Its answer may be lost: the same key may ask again."""
    world.now = NOW + DAY + WINDOW_SECONDS
    assert await world.rejoin() != await world.rejoin()


async def test_later_a_person_approves_its_key(world: World) -> None:
    """The agent is told the fingerprint to compare, and is let in once it was approved."""
    world.now = NOW + DAY + WINDOW_SECONDS + 1
    for _ in range(2):
        with pytest.raises(AgentRefused, match="waits for approval: fingerprint SHA256:") as refused:
            await world.rejoin()
        assert refused.value.code is ErrorCode.APPROVAL_PENDING
    approval = (await world.store.read(lambda c: find_cluster(c, "acme", "harbour"))).approval
    assert approval is not None
    fingerprint = identity_fingerprint(approval.key_sha256)
    assert (approval.kind, fingerprint in refused.value.reason) == ("rejoin", True)
    await world.store.write(lambda c: approve(c, "acme", "harbour", fingerprint, world.now))
    await world.rejoin()


async def test_a_challenge_is_needed(world: World) -> None:
    """A proof that was seen on another connection is worth nothing."""
    csr_pem = make_request(ec.generate_private_key(ec.SECP256R1()))
    request = Rejoin(
        certificate_pem=world.certificate_pem, csr_pem=csr_pem, signature=sign_proof(world.key, NONCE, csr_pem)
    )
    for nonce in ("", "cd" * 32):
        with pytest.raises(AgentRefused) as refused:
            await world.identities.rejoining.rejoin(request, nonce)
        assert refused.value.code is ErrorCode.UNAUTHORIZED
