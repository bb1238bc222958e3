"""Blobs in a bucket: what is done by generations, and what is said when the service does not let the relay do it."""

from __future__ import annotations

import hashlib
import random
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

from fairlead_relay.errors import BlobInvalid, StoreUnavailable, StoreUnusable
from fairlead_relay.pki.authority import CertificateAuthority
from fairlead_relay.store.blobs import Blobs, open_blobs, s3
from tests.conformance.s3_server import S3Server, running_s3
from tests.polling import wait_until

LARGE = random.Random(2).randbytes(3_000_000)
"""Three pieces."""
SHA256 = hashlib.sha256(LARGE).hexdigest()


def opened(url: str) -> Blobs:
    """Open a bucket as a relay does."""
    return open_blobs(url, "", Path("/nowhere"))


def objects(server: S3Server, url: str) -> list[str]:
    """Return the names in a bucket, below its prefix, sorted."""
    bucket = S3Store.from_url(url.partition("?")[0], endpoint=server.endpoint, client_options={"allow_http": True})
    return sorted(str(entry["path"]) for page in obstore.list(bucket) for entry in page)


@pytest.fixture
def blobs(bucket: str) -> Blobs:
    """A bucket that holds LARGE."""
    made = opened(bucket)
    made.put(SHA256, [LARGE])
    return made


def test_what_was_stored_again_outlives_whoever_forgets_the_old(blobs: Blobs, bucket: str, s3: S3Server) -> None:
    """Each time it is stored it is another object, so that nothing that is old now can be mistaken for it."""
    (first,) = objects(s3, bucket)
    moment = time.time() + 1
    wait_past(moment)
    blobs.put(SHA256, iter(()))
    assert len(objects(s3, bucket)) == 2
    assert not blobs.forget(SHA256, moment)
    assert list(blobs.stored_before(moment)) == []
    assert b"".join(blobs.read(SHA256)) == LARGE
    later = time.time() + 60
    assert list(blobs.stored_before(later)) == [SHA256]
    (last,) = objects(s3, bucket)
    assert first < last
    assert b"".join(blobs.read(SHA256, 2_999_000)) == LARGE[2_999_000:]
    assert blobs.forget(SHA256, later)
    assert objects(s3, bucket) == []


def wait_past(moment: float) -> None:
    """Wait for a time of the wall clock."""
    wait_until(lambda: time.time() > moment, "the clock")


def test_content_that_goes_while_it_is_stored_again_is_stored_anew(
    blobs: Blobs, bucket: str, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another relay forgot it between this one's look and its copy."""
    copy = obstore.copy

    def late_copy(store: S3Store, origin: str, name: str) -> None:
        opened(bucket).forget(SHA256, time.time() + 60)
        copy(store, origin, name)

    monkeypatch.setattr(obstore, "copy", late_copy)
    blobs.put(SHA256, [LARGE])
    assert b"".join(blobs.read(SHA256)) == LARGE
    assert len(objects(s3, bucket)) == 1


def test_content_that_goes_while_it_is_read_is_named(blobs: Blobs) -> None:
    """The reader never gets fewer bytes without an error."""
    pieces = blobs.read(SHA256)
    next(pieces)
    blobs.forget(SHA256, time.time() + 60)
    with pytest.raises(BlobInvalid, match="it was forgotten while it was read"):
        list(pieces)


def test_what_else_is_in_the_bucket_is_left_alone(bucket: str, s3: S3Server) -> None:
    """A bucket may have other owners, beside the prefix and in it."""
    store = S3Store.from_url(bucket.partition("?")[0], endpoint=s3.endpoint, client_options={"allow_http": True})
    obstore.put(store, f"{SHA256}/notes.txt", b"mine")
    with closing(opened(bucket)) as blobs:
        assert not blobs.has(SHA256)
        assert list(blobs.stored_before(time.time() + 60)) == []
        assert blobs.forget(SHA256, time.time() + 60)
    assert objects(s3, bucket) == [f"{SHA256}/notes.txt"]


def test_a_server_that_goes_away_is_a_passing_failure(blobs: Blobs, s3: S3Server, shorter: None) -> None:
    """In the middle of a transfer; the next one goes on once it is back."""
    pieces = blobs.read(SHA256)
    got = next(pieces)
    s3.crash()
    try:
        with pytest.raises(StoreUnavailable, match="does not answer"):
            list(pieces)
        with pytest.raises(StoreUnavailable, match="FAIRLEAD_RELAY_BLOBS_URL"):
            blobs.put("a" * 64, [b"some"])
    finally:
        s3.start()
    assert got + b"".join(blobs.read(SHA256, len(got))) == LARGE


@pytest.fixture
def shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for seconds only."""
    monkeypatch.setattr(s3, "REQUEST_SECONDS", 1.0)
    monkeypatch.setattr(s3, "RETRY_SECONDS", 1.0)


def test_a_server_that_takes_requests_and_never_answers_is_left(shorter: None, bucket: str) -> None:
    """In a bounded time, which pytest's is far above, and with the setting's name."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=50) as silent,
        pytest.raises(StoreUnavailable, match="FAIRLEAD_RELAY_BLOBS_URL"),
    ):
        opened(f"s3://bundles?endpoint=http://127.0.0.1:{silent.getsockname()[1]}")


def test_a_bucket_that_is_not_there_is_named(bucket: str, s3: S3Server) -> None:
    """At the start, not at the first bundle."""
    with pytest.raises(StoreUnusable, match=r"bucket 'elsewhere' .* does not exist; make it, or name another"):
        opened(s3.url("elsewhere"))


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("AWS_SECRET_ACCESS_KEY", r"closed to these credentials \(SignatureDoesNotMatch\); mend AWS_ACCESS_KEY_ID and"),
        # This server's own code for it; S3 says InvalidAccessKeyId.
        ("AWS_ACCESS_KEY_ID", "cannot be used .*: No user exists with the provided access key ID"),
    ],
)
def test_credentials_that_are_wrong_are_said_to_be(
    bucket: str, monkeypatch: pytest.MonkeyPatch, variable: str, said: str
) -> None:
    """Which variables to mend, and none of what is in them."""
    monkeypatch.setenv(variable, "not-the-right-one")
    with pytest.raises(StoreUnusable, match=said) as found:
        opened(bucket)
    assert "not-the-right-one" not in str(found.value)


def test_a_relay_without_any_credentials_is_told_which(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the machine has no identity of its own either."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(StoreUnavailable, match="needs credentials, and there are none: set AWS_ACCESS_KEY_ID"):
        opened(bucket)


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[S3Server, Path]]:
    """A server with a certificate of a private CA, and that CA's."""
    authority = CertificateAuthority.open(tmp_path / "pki", time.time)
    certificate, root = tmp_path / "server.pem", tmp_path / "root.pem"
    certificate.write_bytes(authority.issue_server(["localhost"]))
    root.write_text(authority.root_pem)
    with running_s3(certificate) as server:
        yield server, root


def test_a_private_ca_is_trusted_if_it_is_named(
    secure: tuple[S3Server, Path], bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a server with a certificate of nobody known is not spoken to."""
    server, root = secure
    url = server.make_bucket()
    with closing(opened(f"{url}&ca_file={root}&region=us-east-1")) as blobs:
        blobs.put(SHA256, [LARGE])
        assert b"".join(blobs.read(SHA256)) == LARGE
    monkeypatch.setattr(s3, "RETRY_SECONDS", 1.0)
    with pytest.raises(StoreUnavailable, match="FAIRLEAD_RELAY_BLOBS_URL"):
        opened(url)
    with pytest.raises(StoreUnusable, match="the ca_file of FAIRLEAD_RELAY_BLOBS_URL cannot be read"):
        opened(f"{url}&ca_file={root}.gone")
