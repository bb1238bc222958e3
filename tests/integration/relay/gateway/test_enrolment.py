"""Enrolment against a real store: what a token is good for, and for how long."""

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from sqlalchemy import Connection

from fairlead_relay.errors import EnrolmentRefused
from fairlead_relay.gateway.enrolment import Enrolment, is_sealing_key
from fairlead_relay.pki.authority import CertificateAuthority
from fairlead_relay.store import Store
from fairlead_relay.store.clusters import EnrolmentGrant, create_cluster, create_enrolment_token
from fairlead_relay.store.organizations import ensure_organization
from fairlead_shared.enrolment import EnrolmentToken
from fairlead_shared.errors import ErrorCode
from fairlead_shared.frames import Enrol
from fairlead_shared.identity import AgentIdentity
from tests.integration.scripted_agent import make_request

NOW = 1_800_000_000.0
TOKEN = EnrolmentToken("a" * 16, "b" * 32, "c" * 64)


@dataclass
class Clock:
    """A clock that tests turn."""

    now: float = NOW

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@dataclass
class Desk:
    """Enrolment with its store and clock."""

    enrolment: Enrolment
    clock: Clock


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """Make a store with one cluster and one token that lives for an hour."""
    clock = Clock()
    store = Store(f"sqlite:///{tmp_path / 'relay.db'}", lambda *_: None)
    await store.start()

    def prepare(connection: Connection) -> None:
        ensure_organization(connection, "acme", NOW)
        create_cluster(connection, "acme", "harbour", NOW)
        grant = EnrolmentGrant("acme", "harbour")
        create_enrolment_token(
            connection,
            grant,
            TOKEN.token_id,
            TOKEN.secret_hash(),
            NOW,
            NOW + 3600,
        )

    await store.write(prepare)
    yield Desk(Enrolment(store, CertificateAuthority.open(tmp_path / "pki", clock), clock), clock)
    await store.stop()


def request(key: ec.EllipticCurvePrivateKey | None = None, secret: str = TOKEN.secret, **changed: str) -> Enrol:
    """Return an agent's request."""
    sealing_key = X25519PrivateKey.generate().public_key().public_bytes_raw()
    csr_pem = make_request(key or ec.generate_private_key(ec.SECP256R1()))
    given = {"csr_pem": csr_pem, "sealing_key": base64.b64encode(sealing_key).decode(), "token_id": TOKEN.token_id}
    return Enrol(secret=secret, **(given | changed))


async def refused(desk: Desk, asked: Enrol) -> EnrolmentRefused:
    """Return why a request was refused."""
    with pytest.raises(EnrolmentRefused) as error:
        await desk.enrolment.enrol(asked)
    return error.value


async def test_the_token_decides_whom_the_certificate_names(desk: Desk) -> None:
    """Nothing in the request names an organization or a cluster."""
    identity, answer = await desk.enrolment.enrol(request())
    assert str(identity) == "acme/harbour/default"
    leaf = x509.load_pem_x509_certificates(answer.certificate_pem.encode())[0]
    assert AgentIdentity.from_certificate(leaf) == identity


async def test_the_same_key_may_ask_again_and_another_may_not(desk: Desk) -> None:
    """An answer may be lost on its way; a token that was read by somebody else is worth nothing."""
    key = ec.generate_private_key(ec.SECP256R1())
    await desk.enrolment.enrol(request(key))
    identity, _ = await desk.enrolment.enrol(request(key))
    assert str(identity) == "acme/harbour/default"
    assert (await refused(desk, request())).code is ErrorCode.TOKEN_INVALID


async def test_an_expired_token_is_refused_as_such(desk: Desk) -> None:
    """The agent's operator learns that it is the time, not the token."""
    desk.clock.now = NOW + 3600
    error = await refused(desk, request())
    assert error.code is ErrorCode.TOKEN_EXPIRED


async def test_a_wrong_secret_says_nothing_of_the_token(desk: Desk) -> None:
    """Whether an id exists, was used or expired is told only to who knows the secret."""
    known = await refused(desk, request(secret="x" * 32))
    unknown = await refused(desk, request(token_id="z" * 16))
    assert known.code is unknown.code is ErrorCode.TOKEN_INVALID
    assert str(known) == str(unknown)
    assert "x" * 32 not in str(known)


@pytest.mark.parametrize("changed", [{"csr_pem": "nonsense"}, {"sealing_key": "AAAA"}])
async def test_a_malformed_request_does_not_spend_the_token(desk: Desk, changed: dict[str, Any]) -> None:
    """The agent may correct its mistake with the same token."""
    assert (await refused(desk, request(**changed))).code is ErrorCode.MALFORMED
    await desk.enrolment.enrol(request())


def test_a_sealing_key_is_32_bytes_in_base64() -> None:
    """What clients will seal to is checked before it is stored."""
    assert is_sealing_key(base64.b64encode(bytes(range(32))).decode())
    assert not is_sealing_key(base64.b64encode(bytes(31)).decode())
    assert not is_sealing_key("no base64!")
