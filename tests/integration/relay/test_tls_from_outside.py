"""The agent port's TLS as OpenSSL's own client sees it, and what a client without a certificate may say."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fairlead_relay.pki.authority import CertificateAuthority
from fairlead_shared.errors import ErrorCode
from fairlead_shared.frames import CaAnswer, Challenge
from fairlead_shared.identity import AgentIdentity
from fairlead_shared.session import Received
from tests.integration.conftest import Tenant
from tests.integration.relay_process import RelayProcess
from tests.integration.scripted_agent import make_request, open_wire, unverified_context
from tests.integration.scripted_relay import ThrowawayCa
from tests.polling import PATIENCE_SECONDS
from tests.unit.shared.test_frames import SAMPLES

REQUEST = b"GET /v1/organizations HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n"
SPOKEN = ("ca_request", "enrol", "challenge_request", "rejoin")
"""What is served without a certificate."""


def s_client(relay: RelayProcess, *options: str) -> str:
    """Connect as `openssl s_client`, ask for a page, and return everything it prints."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{relay.agent_port}", "-servername", "localhost"]
    command += ["-CAfile", str(relay.ca_file), "-verify_return_error", "-ign_eof", *options]
    done = subprocess.run(command, input=REQUEST, capture_output=True, timeout=PATIENCE_SECONDS, check=False)
    return (done.stdout + done.stderr).decode(errors="replace")


def pair(folder: Path, key: ec.EllipticCurvePrivateKey, chain_pem: str) -> tuple[str, ...]:
    """Write a key and a certificate, and return the options that present them."""
    form = serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    (folder / "chain.pem").write_text(chain_pem)
    chain = str(folder / "chain.pem")
    return "-key", str(folder / "key.pem"), "-cert", chain, "-cert_chain", chain


def test_only_tls_1_3_is_spoken(relay: RelayProcess) -> None:
    """An older client is told so; a present one gets a verified server, without a certificate of its own."""
    assert "alert protocol version" in s_client(relay, "-tls1_2")
    answer = s_client(relay, "-tls1_3")
    assert "New, TLSv1.3" in answer
    assert "Verify return code: 0 (ok)" in answer
    assert "Requested Signature Algorithms" in answer, "no client certificate was asked for"
    assert "HTTP/1.1 404" in answer


async def test_no_ticket_carries_an_old_identity(tenant: Tenant, tmp_path: Path) -> None:
    """Neither with a certificate nor without is there a session to resume."""
    agent = await tenant.enrol()
    for options in ((), pair(tmp_path, agent.key, agent.certificate_pem)):
        answer = await asyncio.to_thread(s_client, tenant.relay, *options)
        assert "HTTP/1.1 404" in answer
        assert "New Session Ticket" not in answer


def test_a_strangers_certificate_is_refused(relay: RelayProcess, tmp_path: Path) -> None:
    """Also one that names an agent as ours do."""
    key = ec.generate_private_key(ec.SECP256R1())
    forged = ThrowawayCa().issue_agent(make_request(key), 3600)
    answer = s_client(relay, *pair(tmp_path, key, forged))
    assert "alert unknown ca" in answer
    assert "HTTP/1.1 404" not in answer


def test_an_expired_certificate_is_refused_as_such(relay: RelayProcess, tmp_path: Path) -> None:
    """By the same CA, two days ago."""
    authority = CertificateAuthority.open(relay.data_dir / "pki", lambda: time.time() - 2 * 86_400)
    key = ec.generate_private_key(ec.SECP256R1())
    issued = authority.issue_agent(make_request(key), AgentIdentity.parse("fairlead://acme/harbour/default"))
    answer = s_client(relay, *pair(tmp_path, key, issued.chain_pem))
    assert "alert certificate expired" in answer
    assert "HTTP/1.1 404" not in answer


def test_a_servers_certificate_opens_nothing(relay: RelayProcess, tmp_path: Path) -> None:
    """It is of the same CA and meant for servers."""
    authority = CertificateAuthority.open(relay.data_dir / "pki", time.time)
    pem = authority.issue_server(["localhost"])
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    answer = s_client(relay, *pair(tmp_path, key, pem[pem.index(b"-----BEGIN CERTIFICATE") :].decode()))
    assert "alert" in answer
    assert "HTTP/1.1 404" not in answer


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample["kind"])
async def test_without_a_certificate_only_the_way_in_is_served(relay: RelayProcess, sample: dict[str, object]) -> None:
    """Everything else ends the connection, and nothing is answered before."""
    kind = sample["kind"]
    async with open_wire(relay.agent_url, unverified_context()) as wire:
        await wire.send_raw(json.dumps(sample).encode())
        if kind == "ca_request":
            await wire.wait_message(CaAnswer)
        elif kind == "challenge_request":
            await wire.wait_message(Challenge)
        elif kind == "unsupported":
            return  # never answered, never fatal
        else:
            closed = await wire.wait_closed()
            assert not [event for event in wire._skipped if isinstance(event, Received)]
            if kind not in SPOKEN and kind not in ("hello", "error"):
                assert closed.code is ErrorCode.PROTOCOL, closed
            if kind == "hello":
                assert closed.code is ErrorCode.UNAUTHORIZED
