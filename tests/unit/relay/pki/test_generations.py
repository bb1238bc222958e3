"""A change of the CA on disk: begun, seen by the relay that serves, ended, and whole after a crash anywhere."""

from __future__ import annotations

import ssl
import stat
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fairlead_relay.errors import AuthorityDamaged, AuthorityInvalid, Conflict
from fairlead_relay.pki.authority import CertificateAuthority
from fairlead_relay.pki.certificates import from_epoch
from fairlead_relay.pki.generations import (
    authority_files,
    begin_change,
    create_first,
    create_given,
    finish_change,
    read_generations,
    stamp,
)
from fairlead_shared.identity import AgentIdentity

NOW = 1_800_000_000.0
IDENTITY = AgentIdentity.parse("fairlead://acme/harbour/default")


def clock() -> float:
    """Return the time of these tests."""
    return NOW


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make an authority."""
    create_first(tmp_path / "pki", from_epoch(time.time()))
    return tmp_path / "pki"


def issue(authority: CertificateAuthority) -> x509.Certificate:
    """Issue a certificate to an agent."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    return x509.load_pem_x509_certificates(authority.issue_agent(request, IDENTITY).chain_pem.encode())[0]


def test_a_change_is_taken_up_by_a_relay_that_serves(folder: Path) -> None:
    """The new CA issues, the old one's certificates still count, until the change is finished."""
    authority = CertificateAuthority.open(folder, clock)
    old, first = issue(authority), authority.generations[-1]
    assert not authority.refresh()
    begin_change(folder, from_epoch(NOW), keep_root=False)
    assert authority.refresh()
    assert not authority.refresh()
    new = issue(authority)
    assert authority.issuer_of(old) == first.issuer
    assert authority.issuer_of(new) == authority.issuer != first.issuer
    assert authority.root_pem_of(first_root := fingerprint(first.root)) != authority.root_pem
    assert authority.trust_pem.count("BEGIN") == 4
    finish_change(folder)
    assert authority.refresh()
    assert authority.issuer_of(old) is None
    assert authority.issuer_of(new) == authority.issuer
    assert authority.root_pem_of(first_root) == authority.root_pem
    again = CertificateAuthority.open(folder, clock)
    assert (again.root_pem, again.issuer_of(new)) == (authority.root_pem, authority.issuer)


def fingerprint(certificate: x509.Certificate) -> str:
    """Return a certificate's fingerprint, lower-case hex."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def test_the_new_root_is_accepted_by_who_trusts_the_old_one(folder: Path) -> None:
    """OpenSSL builds the chain over the cross-signed root; and without it for who trusts the new root."""
    authority = CertificateAuthority.open(folder, time.time)
    old_root = authority.root_pem
    begin_change(folder, from_epoch(time.time()), keep_root=False)
    authority.refresh()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    file = folder / "server.pem"
    file.write_bytes(authority.issue_server(["relay.example.com"]))
    server.load_cert_chain(file)
    for root in (old_root, authority.root_pem):
        assert shakes_hands(server, root)


def shakes_hands(server_context: ssl.SSLContext, root_pem: str) -> bool:
    """Tell whether a client that trusts one root accepts a server, without a network."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context(cadata=root_pem).wrap_bio(down, up, server_hostname="relay.example.com")
    server = server_context.wrap_bio(up, down, server_side=True)
    for _ in range(6):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return client.version() == "TLSv1.3" and client.getpeercert() is not None


def test_only_the_issuing_ca_may_change(folder: Path) -> None:
    """Then who trusts the root notices nothing, and what the old issuing CA signed counts until the change is over."""
    authority = CertificateAuthority.open(folder, clock)
    root, old = authority.root_pem, issue(authority)
    made = begin_change(folder, from_epoch(NOW), keep_root=True)
    authority.refresh()
    assert (authority.root_pem, made.cross) == (root, None)
    assert authority.issuer_of(old) is not None
    finish_change(folder)
    authority.refresh()
    assert authority.issuer_of(old) is None


def test_changes_follow_one_another(folder: Path) -> None:
    """One at a time; nothing of the old ones' keys stays on disk, and all files are their owner's alone."""
    with pytest.raises(Conflict, match="no change"):
        finish_change(folder)
    for number in (2, 3):
        begin_change(folder, from_epoch(NOW), keep_root=False)
        with pytest.raises(Conflict, match="under way"):
            begin_change(folder, from_epoch(NOW), keep_root=False)
        assert finish_change(folder).number == number
    assert sorted(path.name for path in folder.iterdir()) == ["ca-3", "signer.key"]
    assert [one.number for one in read_generations(folder)] == [3]
    for path in folder.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_finish_that_was_cut_short_is_a_finish(folder: Path) -> None:
    """The mark counts; what could not be deleted any more is ignored."""
    begin_change(folder, from_epoch(NOW), keep_root=False)
    before = stamp(folder)
    (folder / "ca-2" / "alone").touch()
    assert stamp(folder) != before
    assert [one.number for one in read_generations(folder)] == [2]


def test_a_root_without_its_key_cannot_be_changed(folder: Path) -> None:
    """It could not vouch for the new one, and who trusts it would be locked out."""
    (folder / "root.key").unlink()
    with pytest.raises(Conflict, match=r"root\.key"):
        begin_change(folder, from_epoch(NOW), keep_root=False)
    assert stamp(folder) == ()
    (folder / "root.key").write_bytes((folder / "issuing.key").read_bytes())
    with pytest.raises(AuthorityDamaged, match=r"root\.key"):
        begin_change(folder, from_epoch(NOW), keep_root=False)
    assert stamp(folder / "nowhere") == ()


def test_the_operators_own_ca_is_used_as_it_is(folder: Path, tmp_path: Path) -> None:
    """Without its root's key; what does not belong together, or is there already, is refused."""
    root, issuing, key = ((folder / name).read_bytes() for name in ("root.pem", "issuing.pem", "issuing.key"))
    given = tmp_path / "given"
    for files, reason in (
        ((root, issuing, b"nonsense"), "no PEM"),
        ((issuing, root, key), "did not sign"),
        ((root, issuing, (folder / "root.key").read_bytes()), "not the issuing CA's"),
    ):
        with pytest.raises(AuthorityInvalid, match=reason):
            create_given(given, *files)
    made = create_given(given, root, issuing, key)
    assert CertificateAuthority.open(given, clock).issuer == made.issuer
    assert sorted(path.name for path in given.iterdir()) == ["issuing.key", "issuing.pem", "root.pem", "signer.key"]
    with pytest.raises(Conflict, match="before its first start"):
        create_given(given, root, issuing, key)
    with pytest.raises(Conflict, match=r"root\.key"):
        begin_change(given, from_epoch(NOW), keep_root=False)


def mount(secret: dict[str, bytes], folder: Path, number: int) -> None:
    """Lay a Secret out as the kubelet does: files in a hidden folder, one link to it, and links through that."""
    content = folder / f"..{number}"
    for name, value in secret.items():
        (content / name).parent.mkdir(parents=True, exist_ok=True)
        (content / name).write_bytes(value)
        (content / name).chmod(0o440)
    (folder / "..new").symlink_to(content.name)
    (folder / "..new").rename(folder / "..data")
    for name in {name.partition("/")[0] for name in secret}:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")


def test_an_authority_may_be_a_mounted_secret(folder: Path, tmp_path: Path) -> None:
    """Its change is taken up as that of a folder is; what the kubelet hides is no file of the authority."""
    secret = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "root.key"}
    (tmp_path / "mounted").mkdir()
    mount(secret, tmp_path / "mounted", 1)
    authority = CertificateAuthority.open(tmp_path / "mounted", clock)
    assert not authority.refresh()
    with pytest.raises(Conflict, match="root's key"):
        begin_change(tmp_path / "mounted", from_epoch(NOW), keep_root=False)
    begin_change(folder, from_epoch(NOW), keep_root=False)
    secret |= {f"ca-2/{path.name}": path.read_bytes() for path in (folder / "ca-2").iterdir()}
    mount(secret, tmp_path / "mounted", 2)
    assert authority.refresh()
    assert [generation.number for generation in authority.generations] == [1, 2]
    files = [str(path.relative_to(tmp_path / "mounted")) for path in authority_files(tmp_path / "mounted")]
    assert files == sorted(secret)
    assert authority_files(tmp_path / "nowhere") == []


def test_an_authority_may_be_what_cert_manager_keeps(folder: Path, tmp_path: Path) -> None:
    """As the chart mounts it: the key in the older form, a chain, and a renewal with the same key."""
    key = serialization.load_pem_private_key((folder / "issuing.key").read_bytes(), None)
    older = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    assert b"BEGIN EC PRIVATE KEY" in older
    secret = {name: (folder / name).read_bytes() for name in ("root.pem", "signer.key")}
    chain = (folder / "issuing.pem").read_bytes() + secret["root.pem"]
    (tmp_path / "mounted").mkdir()
    mount(secret | {"issuing.pem": chain, "issuing.key": older}, tmp_path / "mounted", 1)
    authority = CertificateAuthority.open(tmp_path / "mounted", clock)
    issued = issue(authority)
    assert authority.issuer_of(issued) == authority.issuer
    renewed = renew(folder)
    mount(secret | {"issuing.pem": renewed, "issuing.key": older}, tmp_path / "mounted", 2)
    before = authority.issuer
    assert authority.refresh()
    assert authority.issuer != before
    assert authority.issuer_of(issued) == authority.issuer


def renew(folder: Path) -> bytes:
    """Issue the issuing CA once more, for the same key and name, as a certificate manager does before its end."""
    old = x509.load_pem_x509_certificate((folder / "issuing.pem").read_bytes())
    root_key = serialization.load_pem_private_key((folder / "root.key").read_bytes(), None)
    assert isinstance(root_key, ec.EllipticCurvePrivateKey)
    builder = x509.CertificateBuilder(
        old.issuer, old.subject, old.public_key(), x509.random_serial_number(), old.not_valid_before_utc,
        old.not_valid_after_utc, list(old.extensions),
    )  # fmt: skip
    return builder.sign(root_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
