"""
Debian's squid as networks run it that inspect TLS: it bumps each tunnel, with certificates of a CA of its own.

It mimics the relay's certificate and checks it by the relay's root, as a network's owner would set it up. Must not:
know anything of Fairlead but that root.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.hazmat.primitives import serialization

from tests.cluster.debian import ensure_packages
from tests.cluster.network import OUTSIDE_ADDRESS
from tests.e2e.shut_in import listens
from tests.integration.scripted_relay import ThrowawayCa
from tests.polling import PATIENCE_SECONDS, wait_until
from tests.ports import HeldPort

_CERTIFICATES = "/usr/lib/squid/security_file_certgen"
_CONFIGURATION = """
http_port {address}:{port} ssl-bump tls-cert={directory}/ca-and-key.pem generate-host-certificates=on
sslcrtd_program {certificates} -s {directory}/certificates -M 4MB
sslcrtd_children 2
acl first at_step SslBump1
ssl_bump peek first
ssl_bump bump all
tls_outgoing_options cafile={directory}/relay.pem
{upgrades}
hosts_file {directory}/hosts
pinger_enable off
digest_generation off
auth_param basic program /usr/lib/squid/basic_ncsa_auth {directory}/passwords
acl known proxy_auth REQUIRED
http_access allow known
http_access deny all
cache deny all
cache_effective_user proxy
pid_filename none
coredump_dir none
netdb_filename none
access_log stdio:{directory}/access.log
cache_log {directory}/cache.log
shutdown_lifetime 1 seconds
"""
RELAY_HOST = "relay.test"
"""The relay's name, which squid alone resolves; it checks no certificate of an address."""
USER, PASSWORD = "harbour", "ropes-and-knots"


@dataclass(frozen=True)
class InspectingSquid:
    """One running proxy."""

    port: int
    ca_file: Path
    """The network owner's CA, which mints what the proxy presents."""
    directory: Path

    @property
    def url(self) -> str:
        """What HTTPS_PROXY would hold."""
        return f"http://{USER}:{PASSWORD}@{OUTSIDE_ADDRESS}:{self.port}"

    def requests(self) -> list[str]:
        """Return what it saw inside of tunnels, one `METHOD URL STATUS` each, oldest first."""
        found = []
        for line in (self.directory / "access.log").read_text().splitlines():
            words = line.split()
            if words[5] != "CONNECT":
                found.append(f"{words[5]} {words[6]} {words[3].rpartition('/')[2]}")
        return found


@contextmanager
def inspecting_squid(relay_root: Path, *, bears_websockets: bool) -> Iterator[InspectingSquid]:
    """
    Run one on an address that clusters may be allowed to dial.

    Args:
        relay_root: By which it checks the relay's certificate.
        bears_websockets: Whether it passes upgrades on; squid as it comes does not.
    """
    ensure_packages(["squid-openssl"])
    with TemporaryDirectory(prefix="fairlead-squid-") as directory:
        port = _configure(Path(directory), relay_root.read_text(), bears_websockets=bears_websockets)
        with _running(Path(directory), port):
            yield InspectingSquid(port, Path(directory) / "ca.pem", Path(directory))


def _configure(directory: Path, relay_root_pem: str, *, bears_websockets: bool) -> int:
    """Write everything squid reads, for the user that it becomes; returns the port."""
    ca = ThrowawayCa()
    key = ca.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / "relay.pem").write_text(relay_root_pem)
    (directory / "hosts").write_text(f"{OUTSIDE_ADDRESS} {RELAY_HOST}\n")
    (directory / "ca.pem").write_text(ca.root_pem)
    (directory / "ca-and-key.pem").write_bytes(key + ca.root_pem.encode())
    subprocess.run(
        [_CERTIFICATES, "-c", "-s", directory / "certificates", "-M", "4MB"], check=True, timeout=PATIENCE_SECONDS
    )
    hashed = subprocess.run(
        ["openssl", "passwd", "-apr1", "-stdin"],
        input=PASSWORD,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_SECONDS,
    )
    (directory / "passwords").write_text(f"{USER}:{hashed.stdout}")
    port = HeldPort(OUTSIDE_ADDRESS).number
    (directory / "conf").write_text(
        _CONFIGURATION.format(
            address=OUTSIDE_ADDRESS,
            port=port,
            directory=directory,
            certificates=_CERTIFICATES,
            upgrades="http_upgrade_request_protocols websocket allow all" if bears_websockets else "",
        )
    )
    for path in (directory, *directory.rglob("*")):
        shutil.chown(path, "proxy", "proxy")
    return port


@contextmanager
def _running(directory: Path, port: int) -> Iterator[None]:
    service = f"fairlead{port}"  # names its shared memory, which squids of a machine would fight over
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            ["squid", "-n", service, "-N", "-f", directory / "conf"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        wait_until(lambda: listens(OUTSIDE_ADDRESS, port) or process.poll() is not None, "squid to listen")
        assert process.poll() is None, (directory / "cache.log").read_text()
        yield
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_SECONDS)
        finally:
            process.kill()
            for left in Path("/dev/shm").glob(f"{service}-*"):
                left.unlink()
