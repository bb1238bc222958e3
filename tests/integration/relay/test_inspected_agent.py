"""Agents whose network ends TLS on the way: the whole life of an identity and a deployment, inside their own TLS."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fairlead_agent.dialling import Dialler
from fairlead_agent.doctor import Doctor
from fairlead_agent.identity_store import client_context
from fairlead_agent.opening import open_channel
from fairlead_agent.transport_choice import Transport
from fairlead_relay.commands.root import cli
from fairlead_shared.enrolment import EnrolmentToken
from fairlead_shared.errors import ErrorCode
from fairlead_shared.frames import CaAnswer, CaRequest, Error, Hello, decode_frame, encode_frame
from fairlead_shared.inner_tls import PATH_SUFFIX
from tests.fault.middlebox import Middlebox, Refusal, middlebox
from tests.integration.agent_pair import Pair
from tests.integration.bundles import config_maps, deploy, upload
from tests.integration.conftest import Tenant, make_tenant
from tests.integration.relay_process import RelayProcess
from tests.integration.scripted_agent import unverified_context
from tests.integration.scripted_relay import ThrowawayCa
from tests.polling import PATIENCE_SECONDS, eventually


class Office(Pair):
    """A tenant whose agent sits behind a middlebox that inspects TLS, and knows it."""

    def __init__(self, tenant: Tenant, folder: Path, box: Middlebox, ca: ThrowawayCa) -> None:
        super().__init__(tenant, folder, url=box.url)
        self.box = box
        self.ca = ca
        """The network owner's."""
        self.agent.inspected_by = folder / "owner.pem"
        self.agent.inspected_by.write_text(ca.root_pem)

    async def deploy(self) -> None:
        """Deploy something and see it succeed."""
        bundle = config_maps(20)
        await asyncio.to_thread(upload, self.tenant.deployer, self.tenant.organization, bundle)
        made = await asyncio.to_thread(deploy, self.tenant.deployer, self.tenant.environment, bundle)

        async def ended() -> dict[str, Any] | None:
            shown = await self.ask(f"deployments/{made['id']}")
            return shown if shown["finished_at"] else None

        found = await eventually(ended, "the deployment to end")
        assert found is not None
        assert found["state"] == "succeeded"

    def serial(self) -> int:
        """Return the serial number of the agent's certificate."""
        assert self.agent.identities is not None
        held = self.agent.identities.current.certificate
        assert held is not None
        return held.leaf.serial_number


@pytest.fixture(scope="module")
def allowing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    """Run a relay that serves agents through TLS inspection."""
    running = RelayProcess(tmp_path_factory.mktemp("allowing") / "data")
    running.environment = {"FAIRLEAD_RELAY_TLS_INSPECTION": "true", "FAIRLEAD_RELAY_CERTIFICATE_SECONDS": "3600"}
    running.start()
    yield running
    running.close()


async def open_office(relay: RelayProcess, folder: Path, box: Middlebox, ca: ThrowawayCa) -> Office:
    """Make a tenant, and prepare its agent, not started."""
    return Office(await asyncio.to_thread(make_tenant, relay), folder, box, ca)


@pytest.fixture
async def office(allowing: RelayProcess, tmp_path: Path) -> AsyncIterator[Office]:
    """Prepare one at a relay that allows it."""
    ca = ThrowawayCa()
    async with middlebox(allowing.agent_port, ca.server_context(("127.0.0.1",))) as box:
        made = await open_office(allowing, tmp_path, box, ca)
        yield made
        await made.agent.stop()


@pytest.mark.parametrize("transport", list(Transport))
async def test_enrols_deploys_and_is_cut_off(office: Office, transport: Transport) -> None:
    """Disabled, enabled, revoked and enrolled anew, as where nobody inspects."""
    office.agent.only = transport
    await office.agent.start()
    before = await office.until("connected")
    await office.deploy()
    await office.ask("clusters/harbour/disable", {})
    assert "was disabled at" in await office.until_agent_says("authorization")
    await office.ask("clusters/harbour/enable", {})
    await office.until("connected")
    await office.ask("agents/harbour/revoke", {})
    await office.until_agent_says("was revoked at")
    path = f"{office.tenant.path}/clusters/harbour/enrolment-tokens"
    again = await asyncio.to_thread(office.tenant.admin.ask, "POST", path, {}, 201)
    office.agent.token_file.write_text(again["token"])
    after = await office.until("connected")
    assert after["agent"]["sealing_key"] == before["agent"]["sealing_key"]
    await office.deploy()


@pytest.mark.parametrize("transport", list(Transport))
async def test_renews_rejoins_and_follows_a_change_of_the_ca(tmp_path: Path, transport: Transport) -> None:
    """The relay's root is replaced while it serves; an agent away for longer than its certificate returns."""
    relay = RelayProcess(tmp_path / "data")
    relay.environment = {"FAIRLEAD_RELAY_TLS_INSPECTION": "true", "FAIRLEAD_RELAY_CERTIFICATE_SECONDS": "6"}
    await asyncio.to_thread(relay.start)
    ca = ThrowawayCa()
    try:
        async with middlebox(relay.agent_port, ca.server_context(("127.0.0.1",))) as box:
            office = await open_office(relay, tmp_path, box, ca)
            office.agent.only = transport
            await office.agent.start()
            await office.until("connected")
            first = office.serial()

            async def renewed() -> bool:
                return office.serial() != first

            await eventually(renewed, "a renewed certificate")
            assert office.agent.identities is not None
            held = office.agent.identities.current.certificate
            assert held is not None
            root = held.root_pem
            turned = await asyncio.to_thread(
                CliRunner().invoke, cli, ["ca", "rotate", "--data-dir", str(relay.data_dir)]
            )
            assert turned.exit_code == 0, turned.output

            async def moved() -> bool:
                assert office.agent.identities is not None
                now = office.agent.identities.current.certificate
                return now is not None and now.root_pem != root

            await eventually(moved, "the new root")
            await office.agent.stop()
            ended = time.time() + 7

            async def is_over() -> bool:
                return time.time() > ended

            await eventually(is_over, "the certificate to end")
            office.agent.token_file.unlink()
            # Its clock is behind: that the certificate ended is learnt from the alert of the inner handshake.
            office.agent.clock = lambda: time.time() - 3600
            await office.agent.start()
            await office.until("connected")
            await office.agent.stop()
    finally:
        relay.close()


@pytest.mark.parametrize("transport", list(Transport))
@pytest.mark.parametrize("direction", ["to_relay", "to_agent"])
async def test_what_inspects_cannot_alter(office: Office, transport: Transport, direction: str) -> None:
    """One changed byte of what it carries ends the connection; the agent makes another."""
    office.agent.only = transport
    await office.agent.start()
    await office.until("connected")
    assert office.agent.link is not None
    altered: list[bytes] = []

    def alter(content: bytes) -> bytes:
        """Change the last byte of the first message, which ends what is no mere head of a request."""
        if altered or content.endswith(b"\r\n\r\n"):
            return content
        altered.append(content)
        return content[:-1] + bytes([content[-1] ^ 1])

    setattr(office.box, direction, alter)

    async def lost() -> bool:
        return bool(altered) and office.agent.link is not None and not office.agent.link.is_connected

    await eventually(lost, "the altered connection to end")
    await office.until("connected")
    await office.deploy()


async def test_what_inspects_cannot_repeat_a_session(office: Office, allowing: RelayProcess) -> None:
    """Everything that an agent said, said once more to the relay, opens nothing: the relay's part was another."""
    said: list[bytes] = []

    def listen(content: bytes) -> bytes:
        said.append(content)
        return content

    office.agent.only = Transport.WEBSOCKET
    await office.agent.start()
    await office.until("connected")
    await office.agent.stop()
    await office.until("offline")
    office.box.to_relay = listen
    await office.agent.start()
    await office.until("connected")
    connections = allowing.log.read_text().count('"event": "agent connected"')
    reader, writer = await asyncio.open_connection("127.0.0.1", allowing.agent_port, ssl=unverified_context())
    head = [f"GET /v1/agent{PATH_SUFFIX} HTTP/1.1", "Host: relay", "Connection: Upgrade", "Upgrade: websocket"]
    head += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg=="]
    head += ["Sec-WebSocket-Protocol: fairlead.v1"]
    writer.write("\r\n".join([*head, "", ""]).encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    writer.write(b"".join(said))
    async with asyncio.timeout(PATIENCE_SECONDS):
        answer = await reader.read()
    assert answer  # the relay's own part of a handshake, and an alert
    assert office.agent.link is not None
    assert office.agent.link.is_connected
    assert allowing.log.read_text().count('"event": "agent connected"') == connections
    assert "inner TLS handshake refused" in allowing.log.read_text().splitlines()[-1]


@pytest.mark.parametrize("transport", list(Transport))
async def test_without_a_certificate_inside_only_the_way_in_is_served(
    allowing: RelayProcess, transport: Transport
) -> None:
    """Where inspection is allowed a hello still wants a certificate, inside as outside."""
    straight = Dialler(allowing.agent_url)
    inside = Dialler(allowing.agent_url, ca_bundle_file=allowing.ca_file, tls_inspection=True)
    key = base64.b64encode(X25519PrivateKey.generate().public_key().public_bytes_raw()).decode()
    hello = encode_frame(Hello(versions=(1, 1), agent_version="0", replica="r", sealing_key=key))
    for dialler in (straight, inside):
        channel = await open_channel(dialler, transport, client_context(allowing.ca_file.read_text(), None))
        await channel.send(encode_frame(CaRequest()))
        assert isinstance(decode_frame(await channel.receive()), CaAnswer)
        await channel.send(hello)
        refused = decode_frame(await channel.receive())
        assert isinstance(refused, Error)
        assert refused.code is ErrorCode.UNAUTHORIZED
        await channel.close()


async def test_a_relay_that_does_not_allow_it_says_so(relay: RelayProcess, tmp_path: Path) -> None:
    """The agent names the setting, over each transport."""
    ca = ThrowawayCa()
    async with middlebox(relay.agent_port, ca.server_context(("127.0.0.1",))) as box:
        office = await open_office(relay, tmp_path, box, ca)
        await office.agent.start()
        said = await office.until_agent_says("FAIRLEAD_RELAY_TLS_INSPECTION")
        assert "authorization: localhost" in said
        await office.agent.stop()


async def test_an_agent_that_does_not_allow_it_names_what_stands_between(office: Office) -> None:
    """Enrolment ends before the token is said; what to do is said."""
    office.agent.inspected_by = None
    await office.agent.start()
    said = await office.until_agent_says("TLS: localhost")
    assert "intercepts TLS" in said
    assert "FAIRLEAD_TLS_INSPECTION" in said
    assert office.agent.identities is not None
    assert office.agent.identities.current.certificate is None


async def test_the_doctor_tells_inspection_from_another_relay(office: Office) -> None:
    """By the relay's root, which answers behind: with an identity as with a token; refused upgrades are no illness."""
    await office.agent.start()
    await office.until("connected")
    await office.agent.stop()
    assert office.agent.identities is not None
    token = EnrolmentToken.parse(office.tenant.enrolment_token)
    for identity, known in ((office.agent.identities.current, None), (None, token)):
        refused = Doctor(Dialler(office.box.url), identity, known)
        await refused.examine()
        last = refused.findings[-1]
        assert (last.subject, last.passed) == ("TLS", False), refused.findings
        assert "TLS is inspected" in last.found
        assert "issued by CN=throwaway root" in last.found
        assert "FAIRLEAD_TLS_INSPECTION" in last.remedy
        allowed = Dialler(office.box.url, ca_bundle_file=office.agent.inspected_by, tls_inspection=True)
        well = Doctor(allowed, identity, known)
        await well.examine()
        assert well.is_well, well.findings
        assert [finding.found for finding in well.findings if finding.subject == "TLS"][-1].startswith("inside")
        foreign = EnrolmentToken(token.token_id, token.secret, "0" * 64)
        other = Doctor(Dialler(office.box.url), None, foreign)
        await other.examine()
        assert other.findings[-1].subject == "authorization"


@pytest.mark.parametrize("refusal", [Refusal.BAD_GATEWAY, Refusal.CUT])
async def test_the_doctor_takes_polls_for_well(allowing: RelayProcess, tmp_path: Path, refusal: Refusal) -> None:
    """An agent works without websockets, so the doctor says which transport serves."""
    ca = ThrowawayCa()
    async with middlebox(allowing.agent_port, ca.server_context(("127.0.0.1",)), refusal) as box:
        office = await open_office(allowing, tmp_path, box, ca)
        dialler = Dialler(box.url, ca_bundle_file=office.agent.inspected_by, tls_inspection=True)
        doctor = Doctor(dialler, None, EnrolmentToken.parse(office.tenant.enrolment_token))
        await doctor.examine()
        assert doctor.is_well, doctor.findings
        assert "long-poll serves instead" in next(one.found for one in doctor.findings if one.subject == "upgrade")
        assert [one.found for one in doctor.findings if one.subject == "TLS"][-1].startswith("inside")


async def test_another_inspector_than_the_operators_is_refused(office: Office) -> None:
    """Its certificate must be by the CA that the operator gave."""
    assert office.agent.inspected_by is not None
    office.agent.inspected_by.write_text(ThrowawayCa().root_pem)
    await office.agent.start()
    assert "extra CA bundle" in await office.until_agent_says("TLS: localhost")


async def test_the_setting_does_no_harm_where_nobody_inspects(office: Office, allowing: RelayProcess) -> None:
    """The relay's own certificate serves outside and inside."""
    office.agent.url = allowing.agent_url
    await office.agent.start()
    await office.until("connected")
