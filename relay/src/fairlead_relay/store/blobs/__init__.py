"""
The blob port: content by hash, beside the queue's rows, so that bundles never starve the queue.

Which adapter is a matter of who must reach the content: one relay has it in its folder; relays that share a PostgreSQL
have it there, in tables of its own, or in another database, a bucket, or a folder that all of them mount.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from fairlead_relay.errors import StoreUnusable
from fairlead_relay.store.blobs.database import DatabaseBlobs
from fairlead_relay.store.blobs.directory import DirectoryBlobs
from fairlead_relay.store.blobs.port import CHUNK_BYTES, Blobs
from fairlead_relay.store.engines import is_shared, parse_url

__all__ = ["CHUNK_BYTES", "Blobs", "DatabaseBlobs", "DirectoryBlobs", "open_blobs"]


def open_blobs(url: str, database: str, folder: Path) -> Blobs:
    """
    Return where bundles are. Blocks: it may talk to a database or a service.

    Args:
        url: `file:///folder`, `s3://bucket` or `postgresql://…`; empty: beside the store.
        database: URL of the store.
        folder: Beside an SQLite store.

    Raises: StoreUnusable, StoreUnavailable: database or bucket cannot be used, or do not answer.

    """
    if url.startswith("s3:"):
        try:
            from fairlead_relay.store.blobs.s3 import S3Blobs  # noqa: PLC0415  (an extra of the package)
        except ModuleNotFoundError:
            raise StoreUnusable("bundles in a bucket need its library: install fairlead-relay[s3]") from None
        return S3Blobs(url)
    if url.startswith("file:"):
        return DirectoryBlobs(Path(unquote(urlsplit(url).path)))
    if url or is_shared(parse_url(database)):
        return DatabaseBlobs(url or database)
    return DirectoryBlobs(folder)
