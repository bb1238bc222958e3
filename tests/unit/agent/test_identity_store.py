"""The identity: keys that are stored first, certificates that must fit, a Secret that other processes may change."""

import base64
import datetime as dt
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from fairlead_agent.errors import Conflict, IdentityInvalid
from fairlead_agent.identity_store import (
    SECRET_NAME,
    IdentityStore,
    client_context,
    new_key,
    signing_request,
)
from fairlead_agent.ports import StateKind
from tests.integration.agent_state import MemoryState

SIGNER = base64.b64encode(Ed25519PrivateKey.generate().public_key().public_bytes_raw()).decode()


def certificate(key: ec.EllipticCurvePrivateKey, uri: str = "fairlead://acme/blue/default") -> str:
    """Return a self-signed certificate that names an agent."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


@pytest.fixture
def state() -> MemoryState:
    """Return an empty namespace."""
    return MemoryState()


async def test_keys_are_made_once(state: MemoryState) -> None:
    """The first process makes and stores them, every other finds them."""
    first = await IdentityStore(state).open()
    second = await IdentityStore(state).open()
    assert first.sealing_public == second.sealing_public
    assert first.key.public_key() == second.key.public_key()
    assert first.certificate is None
    assert await IdentityStore(MemoryState()).find() is None


async def test_enrolment_is_stored_and_read(state: MemoryState) -> None:
    """Certificate, root and the relay's signer come back."""
    store = IdentityStore(state)
    key = (await store.open()).key
    await store.save_enrolled(certificate(key), certificate(key), SIGNER)
    found = await IdentityStore(state).find()
    assert found is not None
    assert found.certificate is not None
    assert str(found.certificate.agent) == "acme/blue/default"
    assert found.relay_signer_public == SIGNER
    assert store.agent == found.certificate.agent


async def test_certificate_must_fit(state: MemoryState) -> None:
    """One for another key, or naming no agent, or no certificate at all, is not stored."""
    store = IdentityStore(state)
    key = (await store.open()).key
    good = certificate(key)
    for chain, root, signer in (
        (certificate(new_key()), good, SIGNER),
        (certificate(key, "https://acme"), good, SIGNER),
        ("", good, SIGNER),
        (good, "no certificate", SIGNER),
        (good, good, "no key"),
    ):
        with pytest.raises(IdentityInvalid):
            await store.save_enrolled(chain, root, signer)
    assert store.current.certificate is None


async def test_renewal_replaces_key_and_certificate_together(state: MemoryState) -> None:
    """A renewed certificate comes with its key, keeps the sealing key, and must name the same agent."""
    store = IdentityStore(state)
    key = (await store.open()).key
    before = await store.save_enrolled(certificate(key), certificate(key), SIGNER)
    fresh = new_key()
    with pytest.raises(IdentityInvalid, match="names acme/green/default"):
        await store.save_renewed(fresh, certificate(fresh, "fairlead://acme/green/default"), certificate(key))
    after = await store.save_renewed(fresh, certificate(fresh), certificate(key))
    assert after.sealing_public == before.sealing_public
    assert after.key.public_key() == fresh.public_key()
    assert (await IdentityStore(state).open()).key.public_key() == fresh.public_key()


async def test_lost_race_takes_what_the_other_wrote(state: MemoryState) -> None:
    """A conflict leaves the other process's identity in force, so that the next try starts from it."""
    one, other = IdentityStore(state), IdentityStore(state)
    key = (await one.open()).key
    await other.open()
    await other.save_enrolled(certificate(key), certificate(key), SIGNER)
    with pytest.raises(Conflict):
        await one.save_enrolled(certificate(key), certificate(key), SIGNER)
    assert one.current.certificate is not None


async def test_damaged_secret_is_named_without_its_content(state: MemoryState) -> None:
    """The sentence says what to do and repeats nothing of a key."""
    await IdentityStore(state).open()
    stored = state.objects[StateKind.SECRET, SECRET_NAME]["data"]
    stored["tls.key"] = base64.b64encode(b"-----BEGIN PRIVATE KEY----- tops3cret").decode()
    with pytest.raises(IdentityInvalid, match="enrol the agent again") as caught:
        await IdentityStore(state).open()
    assert "tops3cret" not in str(caught.value)
    stored["tls.key"] = base64.b64encode(
        Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    ).decode()
    with pytest.raises(IdentityInvalid, match="no EC key"):
        await IdentityStore(state).open()


async def test_repr_hides_keys(state: MemoryState) -> None:
    """An identity that ends up in a log shows no key."""
    identity = await IdentityStore(state).open()
    assert "key=" not in repr(identity)


async def test_context_presents_the_certificate_over_tls_13_only(state: MemoryState) -> None:
    """TLS 1.3, hostname checked, one root trusted."""
    store = IdentityStore(state)
    key = (await store.open()).key
    identity = await store.save_enrolled(certificate(key), certificate(key), SIGNER)
    context = client_context(certificate(key), identity)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert len(context.get_ca_certs()) <= 1


def test_request_is_signed_by_its_key() -> None:
    """The relay can check that the key is held."""
    key = new_key()
    request = x509.load_pem_x509_csr(signing_request(key).encode())
    assert request.is_signature_valid
    assert request.public_key() == key.public_key()


async def test_agent_is_unknown_before_enrolment(state: MemoryState) -> None:
    """Nobody is taken for an agent before a certificate says so."""
    store = IdentityStore(state)
    with pytest.raises(IdentityInvalid):
        _ = store.current
    await store.open()
    with pytest.raises(IdentityInvalid):
        _ = store.agent


async def test_enrolling_anew_takes_a_new_key_and_keeps_the_old_pair_until_it_is_done(state: MemoryState) -> None:
    """The old one may have been revoked for a leak, or be good again tomorrow; a crash between loses neither."""
    store = IdentityStore(state)
    first = await store.open()
    assert (await store.prepare_enrolment()).enrolment_key == first.key
    before = await store.save_enrolled(certificate(first.key), certificate(first.key), SIGNER)
    prepared = await store.prepare_enrolment()
    assert prepared.enrolment_key.public_key() != before.key.public_key()
    assert prepared.certificate == before.certificate
    again = IdentityStore(state)
    await again.open()
    key = (await again.prepare_enrolment()).enrolment_key
    assert key.public_key() == prepared.enrolment_key.public_key()
    after = await again.save_enrolled(certificate(key), certificate(key), SIGNER)
    assert (after.key.public_key(), after.next_key) == (key.public_key(), None)
    assert after.sealing_public == first.sealing_public
