"""
A real S3 server for tests: versitygw on a folder, on the loopback interface, with credentials of its own.

It ends with the process that started it, also when that is killed. Must not be reachable from elsewhere.
"""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from tests.cluster.binaries import binary
from tests.polling import PATIENCE_SECONDS, wait_until
from tests.ports import HeldPort

ACCESS_KEY = "fairlead-test"
SECRET_KEY = "secret-of-the-test-server"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_METADATA_ENDPOINT": "http://127.0.0.1:9",
}
"""For whoever uses it; nobody is asked for an identity of the machine."""


class S3Server:
    """
    A server.

    Args:
        folder: Holds its buckets, its log and what it knows of objects.
        certificate: Key and certificate, PEM; None: it speaks plain HTTP.
    """

    def __init__(self, folder: Path, certificate: Path | None = None) -> None:
        self._folder = folder
        self._certificate = certificate
        self._process: subprocess.Popen[bytes] | None = None
        self._made = 0
        self._port = HeldPort().number
        for name in ("buckets", "metadata"):
            (folder / name).mkdir()

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"{'https' if self._certificate else 'http'}://localhost:{self._port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        secure: list[str | Path] = (
            ["--cert", self._certificate, "--key", self._certificate] if self._certificate else []
        )
        with (self._folder / "log").open("ab") as log:
            process = self._process = subprocess.Popen(
                [
                    "setpriv", "--pdeathsig", "KILL", binary("versitygw"), "--port", f"localhost:{self._port}",
                    "--quiet", *secure, "posix", "--sidecar", self._folder / "metadata", self._folder / "buckets",
                ],
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env=os.environ | {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY},
            )  # fmt: skip
        wait_until(lambda: process.poll() is not None or self.answers(), "the S3 server to answer")
        if process.poll() is not None:
            raise RuntimeError(f"the S3 server did not start: {(self._folder / 'log').read_text()[-500:]}")

    def crash(self) -> None:
        """End it at once. Idempotent."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(PATIENCE_SECONDS)

    def make_bucket(self) -> str:
        """Make an empty bucket and return its URL, with a prefix in it."""
        self._made += 1
        name = f"bundles-{self._made}"
        (self._folder / "buckets" / name).mkdir()
        return self.url(name)

    def url(self, bucket: str) -> str:
        """Return the URL of a bucket that is there or not."""
        return f"s3://{bucket}/fairlead/bundles?endpoint={self.endpoint}"

    def answers(self) -> bool:
        """Tell whether it takes requests; what it says to one without a signature counts."""
        context = ssl._create_unverified_context() if self._certificate else None
        try:
            urlopen(self.endpoint, timeout=2, context=context).close()
        except HTTPError:
            return True
        except (URLError, OSError):
            return False
        return True


@contextmanager
def running_s3(certificate: Path | None = None) -> Iterator[S3Server]:
    """Start a server and end it on leaving."""
    folder = Path(tempfile.mkdtemp(prefix="fairlead-s3-"))
    try:
        server = S3Server(folder, certificate)
        try:
            server.start()
            yield server
        finally:
            server.crash()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
