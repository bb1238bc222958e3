"""The agent port seen from outside: TLS 1.3 only, certificates, and what a client without one may do."""

import asyncio
import base64
import datetime as dt
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidMessage, InvalidStatus
from websockets.typing import Subprotocol

from fairlead_shared.errors import ErrorCode
from fairlead_shared.frames import CaAnswer, CaRequest, GoAway, Hello, encode_frame
from fairlead_shared.poll_batches import POLL_PATH, join_frames
from tests.integration.conftest import Tenant, make_tenant
from tests.integration.relay.gateway.agent_port import Requests
from tests.integration.relay_process import RelayProcess
from tests.integration.scripted_agent import ScriptedAgent, open_wire, unverified_context
from tests.polling import PATIENCE_SECONDS

REFUSED = (ssl.SSLError, ConnectionError, InvalidMessage)
"""TLS 1.3 reports a refused client certificate at the first read, which the websocket then finds no answer in."""


def s_client(relay: RelayProcess, *options: str) -> subprocess.CompletedProcess[str]:
    """Connect with openssl, which knows nothing of our code, and send nothing."""
    openssl = shutil.which("openssl")
    if openssl is None:
        raise RuntimeError("openssl is not installed: apt-get install openssl")
    command = [
        openssl,
        "s_client",
        "-connect",
        f"127.0.0.1:{relay.agent_port}",
        "-CAfile",
        str(relay.ca_file),
        *options,
    ]
    return subprocess.run(command, input="", capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)


def some_hello() -> Hello:
    """Return a hello of nobody."""
    key = X25519PrivateKey.generate().public_key().public_bytes_raw()
    return Hello(versions=(1, 1), agent_version="0", replica="r", sealing_key=base64.b64encode(key).decode())


def test_the_agent_port_speaks_tls_1_3(relay: RelayProcess) -> None:
    """Openssl connects with TLS 1.3, verifies the chain and the name, and gets no session ticket."""
    shown = s_client(relay, "-tls1_3", "-verify_return_error", "-verify_hostname", "localhost")
    assert shown.returncode == 0, shown.stderr
    assert "TLSv1.3" in shown.stdout
    assert "Verify return code: 0 (ok)" in shown.stdout
    assert "New Session Ticket" not in shown.stdout


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_1"])
def test_the_agent_port_refuses_older_tls(relay: RelayProcess, version: str) -> None:
    """An older version is no handshake at all."""
    shown = s_client(relay, version, "-cipher", "DEFAULT:@SECLEVEL=0")
    assert shown.returncode != 0
    assert "no peer certificate available" in shown.stdout


async def test_without_a_certificate_only_the_ca_and_enrolment_are_served(relay: RelayProcess) -> None:
    """The CA is given to anybody, since it is public; a hello is answered with `unauthorized`."""
    async with open_wire(relay.agent_url, unverified_context()) as wire:
        await wire.send(CaRequest())
        assert (await wire.wait_message(CaAnswer)).root_pem == relay.ca_file.read_text()
        await wire.send(some_hello())
        closed = await wire.wait_closed()
    assert closed.code is ErrorCode.UNAUTHORIZED


async def test_a_message_of_a_session_before_the_hello_ends_the_connection(relay: RelayProcess) -> None:
    """Whatever else a client without a certificate tries is `protocol`."""
    async with open_wire(relay.agent_url, unverified_context()) as wire:
        await wire.send_raw(b'{"kind":"heartbeat","number":1}')
        assert (await wire.wait_closed()).code is ErrorCode.PROTOCOL


async def test_a_text_message_ends_the_connection(relay: RelayProcess) -> None:
    """Frames are binary; text is `malformed`."""
    async with open_wire(relay.agent_url, unverified_context()) as wire:
        await wire.send_raw("hello")
        assert (await wire.wait_closed()).code is ErrorCode.MALFORMED


async def test_a_certificate_of_a_foreign_ca_is_refused(tenant: Tenant) -> None:
    """A certificate that names the agent but was issued by somebody else ends the handshake."""
    agent = await tenant.enrol()
    key = ec.generate_private_key(ec.SECP256R1())
    genuine = x509.load_pem_x509_certificate(agent.certificate_pem.encode())
    now = dt.datetime.now(dt.UTC)
    forged = (
        x509.CertificateBuilder()
        .subject_name(genuine.subject)
        .issuer_name(genuine.issuer)
        .public_key(key.public_key())
        .serial_number(genuine.serial_number)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(genuine.extensions.get_extension_for_class(x509.SubjectAlternativeName).value, critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    agent.key = key
    agent.certificate_pem = forged.public_bytes(encoding=serialization.Encoding.PEM).decode()
    with pytest.raises(REFUSED):
        async with agent.connect():
            pass


async def test_the_relays_own_server_certificate_is_no_client_certificate(tenant: Tenant) -> None:
    """A key that leaks from the server side must not speak for an agent: its usage is serverAuth alone."""
    agent = await tenant.enrol()
    context = ssl.create_default_context(cadata=agent.root_pem)
    context.load_cert_chain(tenant.relay.data_dir / "server.pem")
    with pytest.raises(REFUSED):
        async with connect(
            f"{tenant.relay.agent_url}/v1/agent", ssl=context, subprotocols=[Subprotocol("fairlead.v1")]
        ):
            pass


async def test_another_path_is_not_found_and_says_where_agents_connect(relay: RelayProcess) -> None:
    """Who mistakes the port for the API is told so."""
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"{relay.agent_url}/v1/other", ssl=unverified_context()):
            pass
    assert refused.value.response.status_code == 404


async def test_a_flood_of_clients_without_a_certificate_is_held_back(tmp_path: Path) -> None:
    """Beyond the limit they get 503 with Retry-After, while an agent with a certificate is served."""
    relay = RelayProcess(tmp_path / "data", environment={"FAIRLEAD_RELAY_UNIDENTIFIED_PER_MINUTE": "3"})
    await asyncio.to_thread(relay.start)
    try:
        token = await asyncio.to_thread(relay.token)
        api = relay.client(token)
        made = await asyncio.to_thread(api.ask, "POST", "/v1/organizations/acme/clusters", {"name": "c"}, 201)
        agent = await ScriptedAgent.enrol(relay.agent_url, made["enrolment"]["token"])  # takes two of the three
        async with open_wire(relay.agent_url, unverified_context()):
            pass
        with pytest.raises(InvalidStatus) as refused:
            async with open_wire(relay.agent_url, unverified_context()):
                pass
        assert refused.value.response.status_code == 503
        assert int(refused.value.response.headers["Retry-After"]) >= 1
        async with agent.connect() as connection:
            assert connection.welcome.version == 1
    finally:
        relay.close()


async def test_the_bound_holds_for_each_long_poll_series_too(tmp_path: Path) -> None:
    """On one kept connection as on many; a made-up series counts, a request of one that is served does not."""
    relay = RelayProcess(tmp_path / "data", environment={"FAIRLEAD_RELAY_UNIDENTIFIED_PER_MINUTE": "3"})
    await asyncio.to_thread(relay.start)

    async def connect_plainly() -> Requests:
        return Requests(*await asyncio.open_connection("127.0.0.1", relay.agent_port, ssl=unverified_context()))

    try:
        kept = await connect_plainly()
        name = (await kept.ask("POST", POLL_PATH)).headers["Fairlead-Session"]
        assert (await kept.ask("POST", POLL_PATH)).status == 200
        frames = join_frames([encode_frame(CaRequest())])
        for number in range(1, 6):
            said = await kept.ask("POST", POLL_PATH, frames, Fairlead_Session=name, Fairlead_Send=str(number))
            assert said.status == 204
        assert (await kept.ask("POST", POLL_PATH, Fairlead_Session="made-up", Fairlead_Receive="1")).status == 410
        refused = await kept.ask("POST", POLL_PATH)
        assert (refused.status, refused.headers["Connection"]) == (503, "close")
        assert int(refused.headers["Retry-After"]) >= 1
        other = await connect_plainly()
        assert (await other.ask("POST", POLL_PATH, Fairlead_Session="made-up", Fairlead_Receive="1")).status == 503
        kept.close()
        other.close()
    finally:
        relay.close()


async def test_a_stopping_relay_tells_its_agents_and_exits_cleanly(own_relay: RelayProcess) -> None:
    """SIGTERM: agents get go_away, then a reason to come back; the exit code is 0 and ready.json is gone."""
    tenant = await asyncio.to_thread(make_tenant, own_relay)
    agent = await tenant.enrol()
    async with agent.connect() as connection:
        stopping = asyncio.create_task(asyncio.to_thread(own_relay.stop))
        await connection.wire.wait_message(GoAway)
        assert (await connection.wire.wait_closed()).code is ErrorCode.OVERLOADED
    assert await stopping == 0
    assert not (own_relay.data_dir / "ready.json").exists()
