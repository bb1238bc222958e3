"""
Blobs in a bucket of S3, or of a service that speaks its API, for relays that share one.

An object is PREFIX/SHA256/GENERATION and is written once. Storing content again copies it, inside of the service, to a
newer generation; forgetting deletes the generations that are old. So a relay that forgets can never take away what
another stored again at that moment: S3 deletes by name, and not by age.

Credentials are the environment's (AWS_ACCESS_KEY_ID and what else the library knows, such as an identity of the pod).
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from fairlead_relay.bucket_url import BucketUrl
from fairlead_relay.errors import BlobInvalid, StoreError, StoreUnavailable, StoreUnusable
from fairlead_relay.store.blobs.port import check_sha256, compress, decompress

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

PIECE_BYTES: Final = 1 << 20
"""Compressed bytes read at once: a request of its own each, so that a slow agent holds no connection open."""
CONNECT_SECONDS: Final = 5.0
REQUEST_SECONDS: Final = 30.0
"""For one whole request: 16 MiB at 5 Mbit/s."""
RETRIES: Final = 3
RETRY_SECONDS: Final = 15.0
"""After which no further try begins."""
_TRIES: Final = 5
"""To copy what others forget at the same time: each of them takes something away that was there, so one is enough."""
_OBJECT: Final = re.compile(r"(?P<sha256>[0-9a-f]{64})/(?P<generation>(?P<stored>\d{13})-[0-9a-f]{8})\.z")
_REFUSED: Final = re.compile(
    r"status code: (?P<status>\d{3}).*?<Code>(?P<code>\w{1,64})</Code>(?:<Message>(?P<message>[^<]{1,200}))?", re.DOTALL
)
"""What a service answers to a request that it refuses, as the library shows it."""
_PASSING: Final = {408, 429}
_NO_CREDENTIALS: Final = "/latest/"
"""In the URL of a machine's metadata service, which is asked last."""
_OF_CREDENTIALS: Final = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken"}
_OF_REGION: Final = {"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"}
_SETTING: Final = "FAIRLEAD_RELAY_BLOBS_URL"


@dataclass(frozen=True, slots=True)
class _Generation:
    """One object."""

    name: str
    stored_at: float
    """By the clock of the relay that stored it, seconds since the epoch."""
    size_bytes: int
    """Compressed."""


class S3Blobs:
    """
    Content in a bucket. See `Blobs`.

    Args:
        url: Of the bucket, see `BucketUrl`.

    Raises: StoreUnusable, StoreUnavailable: it cannot be used with these credentials, or does not answer.
    """

    def __init__(self, url: str) -> None:
        try:
            self._place = BucketUrl.parse(url)
        except ValueError as error:
            raise StoreUnusable(f"{_SETTING}: {error}") from None
        client: ClientConfig = {
            "allow_http": self._place.endpoint.startswith("http:"),
            "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
            "timeout": timedelta(seconds=REQUEST_SECONDS),
        }
        if self._place.ca_file:
            try:
                client["root_certificate"] = Path(self._place.ca_file).read_bytes()
            except OSError as error:
                raise StoreUnusable(f"the ca_file of {_SETTING} cannot be read: {error.strerror}") from None
        retries: RetryConfig = {
            "max_retries": RETRIES,
            "retry_timeout": timedelta(seconds=RETRY_SECONDS),
            "backoff": {"max_backoff": timedelta(seconds=2)},
        }
        # Services other than Amazon's often have no host name for each bucket.
        config: S3Config = {"virtual_hosted_style_request": False}
        if self._place.endpoint:
            config["aws_endpoint_url_s3"] = self._place.endpoint
        if self._place.region:
            config["region"] = self._place.region
        try:
            self._store = S3Store(
                self._place.bucket,
                prefix=self._place.prefix or None,
                config=config,
                client_options=client,
                retry_config=retries,
            )
        except (BaseError, ValueError) as error:
            raise StoreUnusable(f"{_SETTING} cannot be used: {_first_line(error)}") from None
        self._generations("none")  # shows whether there is such a bucket, and lets this relay in

    def has(self, sha256: str) -> bool:
        """Tell whether the content is stored."""
        return bool(self._generations(check_sha256(sha256)))

    def put(self, sha256: str, content: Iterable[bytes]) -> None:
        """Store content, durably on return."""
        check_sha256(sha256)
        for _ in range(_TRIES):
            newest = self._newest(sha256)
            if newest is None:
                break
            try:
                with self._translated():
                    obstore.copy(self._store, newest.name, _new_name(sha256))
            except FileNotFoundError:
                continue
            return
        # Whole, since S3 wants a length and a bundle has 16 MiB at most; nothing is sent before its hash is proved.
        packed = bytearray()
        compress(sha256, content, packed.extend)
        with self._translated():
            obstore.put(self._store, _new_name(sha256), bytes(packed), use_multipart=False)

    def read(self, sha256: str, offset: int = 0) -> Iterator[bytes]:
        """Yield the raw bytes from an offset on."""
        newest = self._newest(check_sha256(sha256))
        if newest is None:
            raise BlobInvalid(sha256, "it is not stored")
        yield from decompress(sha256, self._pieces(sha256, newest), offset)

    def stored_before(self, at: float) -> Iterator[str]:
        """Yield the hashes of what was last stored before a time; clears the generations before the last, too."""
        newest: dict[str, _Generation] = {}
        superseded: list[tuple[str, str]] = []
        for sha256, generation in self._listed(None):
            last = newest.setdefault(sha256, generation)
            if last is not generation:
                older, newest[sha256] = sorted((last, generation), key=lambda one: one.stored_at)
                superseded.append((sha256, older.name))
        # Whoever reads one began before there was a newer: long ago, if that is old itself.
        self._delete([name for sha256, name in superseded if newest[sha256].stored_at < at])
        yield from (sha256 for sha256, generation in newest.items() if generation.stored_at < at)

    def forget(self, sha256: str, stored_before: float) -> bool:
        """Delete content, unless it was stored again since that time."""
        generations = self._generations(check_sha256(sha256))
        if any(generation.stored_at >= stored_before for generation in generations):
            return False
        self._delete([generation.name for generation in generations])
        return not self.has(sha256)

    def close(self) -> None:
        """Do nothing: the library closes its connections when they were idle for a while."""

    def _newest(self, sha256: str) -> _Generation | None:
        return max(self._generations(sha256), key=lambda generation: generation.stored_at, default=None)

    def _generations(self, sha256: str) -> list[_Generation]:
        return [generation for _, generation in self._listed(sha256)]

    def _listed(self, folder: str | None) -> Iterator[tuple[str, _Generation]]:
        """Yield content and generation; what else is in the bucket is somebody else's."""
        pages = obstore.list(self._store, folder, chunk_size=1000)
        while True:
            with self._translated():
                page = next(pages, None)
            if page is None:
                return
            for entry in page:
                if found := _OBJECT.fullmatch(entry["path"]):
                    yield found["sha256"], _Generation(entry["path"], int(found["stored"]) / 1000, entry["size"])

    def _pieces(self, sha256: str, generation: _Generation) -> Iterator[bytes]:
        for start in range(0, generation.size_bytes, PIECE_BYTES):
            end = min(start + PIECE_BYTES, generation.size_bytes)
            try:
                with self._translated():
                    piece = obstore.get_range(self._store, generation.name, start=start, end=end)
            except FileNotFoundError:
                raise BlobInvalid(sha256, "it was forgotten while it was read") from None
            yield bytes(piece)

    def _delete(self, names: list[str]) -> None:
        for name in names:
            with self._translated():
                obstore.delete(self._store, name)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """
        Say what the service or the library said, in one sentence.

        Raises: FileNotFoundError: an object is gone; the caller knows what that means.
        """
        try:
            yield
        except (BaseError, FileNotFoundError) as error:
            refused = _REFUSED.search(str(error))
            code = refused["code"] if refused else ""
            if isinstance(error, FileNotFoundError) and code != "NoSuchBucket":
                raise
            raise self._meaning(error, refused, code) from error

    def _meaning(self, error: Exception, refused: re.Match[str] | None, code: str) -> StoreError:
        bucket = f"the bucket '{self._place.bucket}' for bundles ({_SETTING})"
        if code == "NoSuchBucket":
            return StoreUnusable(f"{bucket} does not exist; make it, or name another")
        if code in _OF_CREDENTIALS or isinstance(error, UnauthenticatedError):
            return StoreUnusable(
                f"{bucket} is closed to these credentials ({code or 'refused'}); mend AWS_ACCESS_KEY_ID and"
                " AWS_SECRET_ACCESS_KEY"
            )
        if code in _OF_REGION:
            return StoreUnusable(f"{bucket} is in another region ({code}); add ?region=NAME")
        if isinstance(error, PermissionDeniedError):
            return StoreUnusable(
                f"{bucket} lets this relay not do what it must ({code or 'refused'}); it needs s3:ListBucket,"
                " s3:GetObject, s3:PutObject and s3:DeleteObject"
            )
        if refused and refused["status"].startswith("4") and int(refused["status"]) not in _PASSING:
            return StoreUnusable(f"{bucket} cannot be used ({code}): {refused['message'] or 'no more is said'}")
        if _NO_CREDENTIALS in _first_line(error):
            return StoreUnavailable(
                f"{bucket} needs credentials, and there are none: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or"
                " give this relay's pod or machine an identity"
            )
        return StoreUnavailable(f"{bucket} does not answer: {_first_line(error)}")


def _new_name(sha256: str) -> str:
    return f"{sha256}/{int(time.time() * 1000):013d}-{secrets.token_hex(4)}.z"


def _first_line(error: Exception) -> str:
    """Return what the library says; below that it shows its own inside."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
