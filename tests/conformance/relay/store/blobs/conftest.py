"""Each adapter of the blob port: a folder, tables of a PostgreSQL, a bucket of a real S3 server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead_relay.store.blobs import Blobs, open_blobs
from tests.conformance.postgresql import PostgresqlServer
from tests.conformance.s3_server import CREDENTIALS, S3Server, running_s3


@pytest.fixture(params=["directory", "postgresql", "s3"])
def empty_blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Blobs]:
    """An adapter that holds nothing, as a relay opens it."""
    if request.param == "directory":
        url = f"file://{tmp_path}/blobs"
    else:
        url = str(request.getfixturevalue("url" if request.param == "postgresql" else "bucket"))
    blobs = open_blobs(url, "", tmp_path)
    yield blobs
    blobs.close()


@pytest.fixture
def url(postgresql: PostgresqlServer) -> Iterator[str]:
    """A database without any table."""
    made = postgresql.make_database()
    yield made
    postgresql.drop_database(made)


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    """One server for the module."""
    with running_s3() as server:
        yield server


@pytest.fixture
def bucket(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket, and the credentials for it in the environment."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return s3.make_bucket()
