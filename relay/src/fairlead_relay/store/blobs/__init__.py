"""
The blob port: content by hash, beside the queue's rows, so that bundles never starve the queue.

Which adapter is a matter of who must reach the content: one relay has it in its folder; relays that share a PostgreSQL
have it there, in tables of its own, or in another database, or in a folder that all of them mount.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from fairlead_relay.store.blobs.database import DatabaseBlobs
from fairlead_relay.store.blobs.directory import DirectoryBlobs
from fairlead_relay.store.blobs.port import CHUNK_BYTES, Blobs
from fairlead_relay.store.engines import is_shared, parse_url

__all__ = ["CHUNK_BYTES", "Blobs", "DatabaseBlobs", "DirectoryBlobs", "open_blobs"]


def open_blobs(url: str, database: str, folder: Path) -> Blobs:
    """
    Return where bundles are. Blocks: it may talk to a database.

    Args:
        url: `file:///folder` or `postgresql://…`; empty: beside the store.
        database: URL of the store.
        folder: Beside an SQLite store.

    Raises: StoreUnusable, StoreUnavailable: the database cannot be used, or does not answer.

    """
    if url.startswith("file:"):
        return DirectoryBlobs(Path(unquote(urlsplit(url).path)))
    if url or is_shared(parse_url(database)):
        return DatabaseBlobs(url or database)
    return DirectoryBlobs(folder)
