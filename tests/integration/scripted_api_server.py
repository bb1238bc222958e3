"""
A scripted API server on loopback, over real TLS: it says what a test wants to hear and keeps what it was asked.

Only for what a healthy API server does not do on request: expired tokens, overload, silence, broken connections.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fairlead_agent.kube.access import ClusterAccess

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class ScriptedApiServer:
    """What it will answer, in turn, and what it was asked."""

    access: ClusterAccess
    context: ssl.SSLContext
    """Of the server's side."""
    answers: list[Answer] = field(default_factory=list)
    """The next requests get these in turn; the last one is repeated."""
    asked: list[web.Request] = field(default_factory=list)
    """Without questions for its readiness."""
    readiness: list[int] = field(default_factory=lambda: [200])
    """Statuses in answer to those, in turn; the last one is repeated."""
    asked_readiness: int = 0

    def renew_certificate(self) -> None:
        """Show a new certificate, of another CA, to each further connection."""
        directory = self.access.ca_file.parent
        self.context.load_cert_chain(_certificate(directory), directory / "tls.key")

    def renew_certificate_by_intermediate(self) -> None:
        """Show a certificate of an intermediate CA to each further connection, and have the file name only that CA."""
        directory, authority = self.access.ca_file.parent, ec.generate_private_key(ec.SECP256R1())
        issuer = _name("intermediate CA")
        intermediate = _signed(issuer, authority.public_key(), _name("root"), ec.generate_private_key(ec.SECP256R1()))
        chain = _certificate(directory, issuer, authority)
        self.context.load_cert_chain(chain, directory / "tls.key")
        self.access.ca_file.write_bytes(intermediate.public_bytes(serialization.Encoding.PEM))

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        if request.path == "/readyz":
            self.asked_readiness += 1
            return web.Response(status=self.readiness.pop(0) if len(self.readiness) > 1 else self.readiness[0])
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await answer(request)


def says(status: int, body: object, **headers: str) -> Answer:
    """Return an answer with a JSON body."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response(
            body, status=status, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )

    return answer


@asynccontextmanager
async def scripted_api_server(directory: Path) -> AsyncIterator[ScriptedApiServer]:
    """
    Run one on a free port.

    Args:
        directory: For its certificate and the token file.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = _certificate(directory)
    context.load_cert_chain(certificate, directory / "tls.key")
    (directory / "token").write_text("first")
    application = web.Application()
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    server = ScriptedApiServer(ClusterAccess("", certificate, directory / "token"), context)
    application.router.add_route("*", "/{path:.*}", server.take)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    server.access = ClusterAccess(f"https://127.0.0.1:{port}", certificate, directory / "token")
    try:
        yield server
    finally:
        await runner.cleanup()


def _certificate(
    directory: Path, issuer: x509.Name | None = None, authority: ec.EllipticCurvePrivateKey | None = None
) -> Path:
    """Write a key and its certificate, signed by itself if nobody else is to."""
    key, subject = ec.generate_private_key(ec.SECP256R1()), _name("scripted API server")
    made = _signed(subject, key.public_key(), issuer or subject, authority or key)
    (directory / "tls.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    path = directory / "tls.crt"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return path


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _signed(
    subject: x509.Name, key: ec.EllipticCurvePublicKey, issuer: x509.Name, authority: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority, hashes.SHA256())
    )
