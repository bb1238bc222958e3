"""The certificate authority: what its certificates say, and what it refuses to sign."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store

from fairlead_relay.errors import AuthorityDamaged, SigningRequestInvalid
from fairlead_relay.pki.authority import (
    AGENT_LIFE,
    CertificateAuthority,
    read_agent_certificate,
    read_request,
    request_key,
)
from fairlead_relay.pki.certificates import BACKDATE
from fairlead_shared.identity import AgentIdentity, certificate_fingerprint

NOW = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)
IDENTITY = AgentIdentity.parse("fairlead://acme/harbour/default")
Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def clock() -> float:
    """Return the time of these tests."""
    return NOW.timestamp()


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    """Make an authority."""
    return CertificateAuthority.open(tmp_path / "pki", clock)


def signing_request(key: Key) -> str:
    """Return a request that asks for more than it will get."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "root of everything")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM).decode()


def test_an_agents_certificate_names_it_and_lives_for_a_day(authority: CertificateAuthority) -> None:
    """Nothing but the key is taken from the request; an independent verifier accepts the chain for clients only."""
    key = ec.generate_private_key(ec.SECP256R1())
    issued = authority.issue_agent(signing_request(key), IDENTITY)
    leaf, intermediate = x509.load_pem_x509_certificates(issued.chain_pem.encode())
    assert AgentIdentity.from_certificate(leaf) == IDENTITY
    assert leaf.public_key() == key.public_key()
    assert (leaf.not_valid_before_utc, leaf.not_valid_after_utc) == (NOW - BACKDATE, NOW + AGENT_LIFE)
    assert issued.not_after == (NOW + AGENT_LIFE).timestamp()
    assert int(issued.serial, 16) == leaf.serial_number
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    verifier = PolicyBuilder().store(Store([authority.root])).time(NOW).build_client_verifier()
    assert verifier.verify(leaf, [intermediate]).chain[-1] == authority.root
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_a_certificate_counts_as_newer_than_those_before_it_whatever_the_clock_says(
    authority: CertificateAuthority,
) -> None:
    """Its life is the clock's; within the same second, too, it is the newer one."""
    request = signing_request(ec.generate_private_key(ec.SECP256R1()))
    for newest, counts_from in ((clock() - 1, clock()), (clock(), clock() + 1), (clock() + 86_400.5, clock() + 86_401)):
        issued = authority.issue_agent(request, IDENTITY, newest)
        found = read_agent_certificate(issued.chain_pem)
        assert found is not None
        assert (issued.made_at, found.made_at) == (counts_from, counts_from)
        assert (issued.not_after, found.expires_at) == ((NOW + AGENT_LIFE).timestamp(),) * 2
        leaf, intermediate = x509.load_pem_x509_certificates(issued.chain_pem.encode())
        verifier = PolicyBuilder().store(Store([authority.root])).time(NOW).build_client_verifier()
        assert verifier.verify(leaf, [intermediate]).chain[-1] == authority.root


def test_a_server_certificate_is_good_for_every_name_it_was_made_for(authority: CertificateAuthority) -> None:
    """DNS names and addresses alike, and for servers only."""
    pem = authority.issue_server(["relay.example.com", "127.0.0.1", "::1"])
    leaf, intermediate = x509.load_pem_x509_certificates(pem)
    serialization.load_pem_private_key(pem, None)
    builder = PolicyBuilder().store(Store([authority.root])).time(NOW)
    builder.build_server_verifier(x509.DNSName("relay.example.com")).verify(leaf, [intermediate])
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_an_authority_is_the_same_when_it_is_opened_again(authority: CertificateAuthority, tmp_path: Path) -> None:
    """Its fingerprint is in tokens and agents' Secrets."""
    again = CertificateAuthority.open(tmp_path / "pki", clock)
    assert again.root_fingerprint == authority.root_fingerprint == certificate_fingerprint(authority.root)
    assert again.signer.private_bytes_raw() == authority.signer.private_bytes_raw()
    assert again.root_pem in again.trust_pem


@pytest.mark.parametrize(
    "make_key",
    [
        lambda: ec.generate_private_key(ec.SECP256R1()),
        lambda: ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate,
    ],
)
def test_strong_keys_are_signed(authority: CertificateAuthority, make_key: Callable[[], Key]) -> None:
    """The kinds that TLS 1.3 clients have."""
    authority.issue_agent(signing_request(make_key()), IDENTITY)


@pytest.mark.parametrize(
    "make_key", [lambda: ec.generate_private_key(ec.SECP224R1()), lambda: rsa.generate_private_key(65537, 1024)]
)
def test_weak_and_unusual_keys_are_refused(authority: CertificateAuthority, make_key: Callable[[], Key]) -> None:
    """The sentence says which kinds are taken."""
    with pytest.raises(SigningRequestInvalid, match="Ed25519 or ECDSA"):
        authority.issue_agent(signing_request(make_key()), IDENTITY)


def test_a_request_signed_by_another_key_is_refused() -> None:
    """Whoever sends a request must hold its key."""
    ours, theirs = (signing_request(ec.generate_private_key(ec.SECP256R1())) for _ in range(2))
    body = x509.load_pem_x509_csr(ours.encode()).public_bytes(serialization.Encoding.DER)
    signature = x509.load_pem_x509_csr(theirs.encode()).signature
    own_signature = x509.load_pem_x509_csr(ours.encode()).signature
    if len(signature) != len(own_signature):
        signature = own_signature[:-1] + bytes([own_signature[-1] ^ 1])
    forged = x509.load_der_x509_csr(body.replace(own_signature, signature)).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(SigningRequestInvalid):
        read_request(forged.decode())


def test_what_is_no_request_is_refused() -> None:
    """From anybody, so anything."""
    for text in ("", "nonsense", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"):
        with pytest.raises(SigningRequestInvalid):
            read_request(text)


def test_requests_of_one_key_are_known_as_such() -> None:
    """That tells a repeated enrolment from a stolen token."""
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    assert request_key(signing_request(key)) == request_key(signing_request(key)) != request_key(signing_request(other))


def test_only_a_certificate_of_an_agent_has_an_identity(authority: CertificateAuthority) -> None:
    """The root names none, and bytes that are no certificate name none."""
    issued = authority.issue_agent(signing_request(ec.generate_private_key(ec.SECP256R1())), IDENTITY)
    leaf = x509.load_pem_x509_certificates(issued.chain_pem.encode())[0]
    for content in (leaf.public_bytes(serialization.Encoding.DER), issued.chain_pem):
        found = read_agent_certificate(content)
        assert found is not None
        assert (found.identity, found.serial, found.made_at) == (IDENTITY, issued.serial, issued.made_at)
        assert found.expires_at == issued.not_after
    assert read_agent_certificate(authority.root.public_bytes(serialization.Encoding.DER)) is None
    assert read_agent_certificate(authority.root_pem) is None
    assert read_agent_certificate(b"nonsense") is None
    assert read_agent_certificate("nonsense") is None


@pytest.mark.parametrize("name", ["root.pem", "issuing.pem", "issuing.key", "signer.key"])
def test_an_authority_with_a_file_missing_spoilt_or_swapped_is_damaged(
    authority: CertificateAuthority, tmp_path: Path, name: str
) -> None:
    """It is named, and never replaced in silence."""
    other = CertificateAuthority.open(tmp_path / "other", clock)
    assert other.root_fingerprint != authority.root_fingerprint
    file = tmp_path / "pki" / name
    whole = file.read_bytes()
    for content in (b"nonsense", (tmp_path / "other" / name).read_bytes()):
        if name == "signer.key" and content != b"nonsense":
            continue
        file.write_bytes(content)
        with pytest.raises(AuthorityDamaged, match="restore"):
            CertificateAuthority.open(tmp_path / "pki", clock)
    file.unlink()
    with pytest.raises(AuthorityDamaged, match=name):
        CertificateAuthority.open(tmp_path / "pki", clock)
    file.write_bytes(whole)
    CertificateAuthority.open(tmp_path / "pki", clock)


def test_a_signer_of_another_kind_is_damage(authority: CertificateAuthority, tmp_path: Path) -> None:
    """Agents have pinned an Ed25519 key."""
    assert authority.root_pem
    (tmp_path / "pki" / "signer.key").write_bytes((tmp_path / "pki" / "issuing.key").read_bytes())
    with pytest.raises(AuthorityDamaged, match="Ed25519"):
        CertificateAuthority.open(tmp_path / "pki", clock)
