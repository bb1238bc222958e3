"""The agent's link and a scripted relay over real TLS: enrolment, reconnection, renewal, errors that name the hop."""

import asyncio
import base64
import datetime as dt
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from structlog.testing import capture_logs

from fairlead_agent import link as link_module
from fairlead_agent import renewal
from fairlead_agent.dialling import Dialler
from fairlead_agent.errors import ConnectFailed, EnrolmentRefused
from fairlead_agent.identity_store import SECRET_NAME, client_context
from fairlead_agent.ports import EnvironmentKey, StateKind
from fairlead_shared.errors import ErrorCode
from fairlead_shared.identity import CLOCK_SKEW_SECONDS
from fairlead_shared.progress import Outcome
from tests.integration.agent_under_test import AgentUnderTest, bundle_of
from tests.integration.scripted_relay import ScriptedRelay, ThrowawayCa
from tests.polling import eventually


@pytest.fixture
async def relay() -> AsyncIterator[ScriptedRelay]:
    """Serve a scripted relay."""
    scripted = ScriptedRelay()
    await scripted.start()
    yield scripted
    await scripted.stop()


@pytest.fixture
async def agent(relay: ScriptedRelay, tmp_path: Path) -> AsyncIterator[AgentUnderTest]:
    """Prepare an agent, not started."""
    under_test = AgentUnderTest(relay, tmp_path)
    yield under_test
    await under_test.stop()


async def ended(agent: AgentUnderTest) -> BaseException:
    """Wait for the agent to give up and return why."""
    assert agent.task is not None
    task, agent.task = agent.task, None
    await asyncio.wait([task], timeout=20)
    error = task.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert error is not None
    return error


def secret(agent: AgentUnderTest) -> dict[str, str]:
    """Return the data of the identity Secret."""
    found = agent.state.objects[StateKind.SECRET, SECRET_NAME]["data"]
    assert isinstance(found, dict)
    return found


async def test_enrols_once_and_reconnects_without_the_token(relay: ScriptedRelay, agent: AgentUnderTest) -> None:
    """Keys are stored first, then a certificate; the next start needs no token."""
    await agent.start()
    assert set(secret(agent)) == {"tls.key", "sealing.key"}
    await relay.until_connected()
    assert set(secret(agent)) == {"tls.key", "sealing.key", "tls.crt", "root.crt", "relay-signer"}
    hello = relay.hellos[0]
    assert hello.replica == "pod-1"
    assert hello.kubernetes_version == "v1.37.2"
    assert base64.b64decode(hello.relay_signer) == relay.signer.public_key().public_bytes_raw()
    keys = secret(agent)["sealing.key"]
    await agent.stop()
    agent.token_file.unlink()
    await agent.start()
    await relay.until_connected(2)
    assert secret(agent)["sealing.key"] == keys
    assert relay.hellos[1].sealing_key == hello.sealing_key


async def test_lost_enrolment_answer_is_asked_for_again(relay: ScriptedRelay, agent: AgentUnderTest) -> None:
    """An agent killed between the relay's answer and its own write enrols again with the same token and key."""
    await agent.start()
    await relay.until_connected()
    await agent.stop()
    for field in ("tls.crt", "root.crt", "relay-signer"):
        del agent.state.objects[StateKind.SECRET, SECRET_NAME]["data"][field]
    await agent.start()
    await relay.until_connected(2)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda relay: relay.token(life_seconds=-1), ErrorCode.TOKEN_EXPIRED),
        (lambda relay: ScriptedRelay.token(ScriptedRelay(), root=relay.ca.root), ErrorCode.TOKEN_INVALID),
        (lambda relay: relay.token(root=ThrowawayCa().root), ErrorCode.UNAUTHORIZED),
        (lambda relay: "not a token", ErrorCode.TOKEN_INVALID),
        (lambda relay: "", ErrorCode.TOKEN_INVALID),
    ],
    ids=["expired", "unknown", "another-relay", "malformed", "empty"],
)
async def test_refused_token_ends_with_one_sentence(
    relay: ScriptedRelay, agent: AgentUnderTest, make: object, code: ErrorCode
) -> None:
    """Each bad token has its code, and the token's secret is never in the message."""
    token = make(relay)  # type: ignore[operator]
    agent.token_file.write_text(token)
    await agent.start()
    error = await ended(agent)
    assert isinstance(error, EnrolmentRefused)
    assert error.code is code
    assert not token.strip() or token.split("_")[2:3] != [str(error)]
    assert "tls.crt" not in secret(agent)


async def test_used_token_is_refused_to_another_agent(
    relay: ScriptedRelay, agent: AgentUnderTest, tmp_path: Path
) -> None:
    """A token is good for one key."""
    await agent.start()
    await relay.until_connected()
    (tmp_path / "other").mkdir()
    other = AgentUnderTest(relay, tmp_path / "other")
    other.token_file.write_text(agent.token_file.read_text())
    await other.start()
    error = await ended(other)
    assert isinstance(error, EnrolmentRefused)
    assert error.code is ErrorCode.TOKEN_INVALID


async def test_replaced_token_is_taken_without_a_restart(relay: ScriptedRelay, agent: AgentUnderTest) -> None:
    """While a refused token is held, a new one in the file is tried at once."""
    agent.token_hold_seconds = 3600
    agent.token_file.write_text(relay.token(life_seconds=-1))
    await agent.start()

    async def refused() -> bool:
        return agent.link is not None and "token_expired" in agent.link.state

    await eventually(refused, "the refusal")
    agent.token_file.write_text(relay.token())
    await relay.until_connected()


async def test_certificate_is_renewed_over_the_live_connection(
    relay: ScriptedRelay, agent: AgentUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Renewed with a new key before it lapses, without a reconnect; the next connection presents it."""
    monkeypatch.setattr(renewal, "LOOK_SECONDS", 0.05)
    passed = 0.0
    agent.clock = lambda: time.time() + passed
    relay.certificate_seconds = 6000
    await agent.start()
    await relay.until_connected()
    first = secret(agent)["tls.crt"], secret(agent)["tls.key"]
    relay.certificate_seconds = 36_000
    passed = 4850.0

    async def renewed() -> bool:
        return secret(agent)["tls.crt"] != first[0]

    await eventually(renewed, "a renewed certificate")
    assert secret(agent)["tls.key"] != first[1]
    assert len(relay.hellos) == 1
    relay.drop()
    await relay.until_connected(2)
    leaf = x509.load_pem_x509_certificate(base64.b64decode(secret(agent)["tls.crt"]))
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).total_seconds() == 36_000 + CLOCK_SKEW_SECONDS


async def test_expired_certificate_rejoins_without_a_token_and_keeps_the_sealing_key(
    relay: ScriptedRelay, agent: AgentUnderTest
) -> None:
    """An agent that was away for longer than its certificate proves its old key, and stays the same recipient."""
    relay.certificate_seconds = 3
    await agent.start()
    await relay.until_connected()
    await agent.stop()
    # A busy machine may have needed several before the first connection.
    connected, rejoined = len(relay.hellos), len(relay.rejoins)
    relay.certificate_seconds = 3600
    sealing, expired = secret(agent)["sealing.key"], secret(agent)["tls.crt"]
    leaf = x509.load_pem_x509_certificate(base64.b64decode(expired))

    async def over() -> bool:
        return dt.datetime.now(dt.UTC) > leaf.not_valid_after_utc

    await eventually(over, "the certificate to expire")
    agent.token_file.unlink()
    await agent.start()
    await relay.until_connected(connected + 1)
    assert len(relay.rejoins) == rejoined + 1
    assert secret(agent)["tls.crt"] != expired
    assert secret(agent)["sealing.key"] == sealing


async def test_go_away_moves_the_connection_and_not_the_job(relay: ScriptedRelay, agent: AgentUnderTest) -> None:
    """The agent reconnects when asked to, and the job under way is continued."""
    await agent.start()
    await relay.until_connected()
    agent.engine.pause_before = 1
    relay.deploy("job0000000000000001", bundle_of(3))
    await agent.engine.paused.wait()
    relay.go_away()
    await relay.until_connected(2)
    agent.engine.go_on.set()
    assert (await relay.until_result("job0000000000000001")).outcome is Outcome.SUCCEEDED


async def test_silent_relay_is_left(relay: ScriptedRelay, agent: AgentUnderTest) -> None:
    """Messages the relay does not understand or garbage it sends end in a reconnect, never in a stuck agent."""
    await agent.start()
    await relay.until_connected()
    assert relay._connection is not None
    await relay._connection.websocket.send(b"\x00garbage")
    await relay.until_connected(2)


async def test_refused_hello_names_authorization(relay: ScriptedRelay, agent: AgentUnderTest) -> None:
    """A revoked agent says so, and keeps trying for the day it is enabled again."""
    relay.refuse_hello = ErrorCode.REVOKED
    await agent.start()

    async def refused() -> bool:
        return agent.link is not None and "authorization" in agent.link.state

    await eventually(refused, "the refusal")
    relay.refuse_hello = None
    await relay.until_connected(2)
    assert relay.rejoins, "the reason was not asked for"


async def test_revoked_agent_enrols_anew_with_a_new_token_and_a_new_key(
    relay: ScriptedRelay, agent: AgentUnderTest
) -> None:
    """A new token in the file is taken without a restart; the key that was revoked is not used again."""
    await agent.start()
    await relay.until_connected()
    old = secret(agent)["tls.key"]
    relay.refuse_hello = ErrorCode.REVOKED
    relay.drop()

    async def refused() -> bool:
        return bool(relay.rejoins) and agent.link is not None and "a test says so" in agent.link.state

    await eventually(refused, "the refusal")
    relay.refuse_rejoin, relay.refuse_hello = ErrorCode.REVOKED, None
    agent.token_file.write_text(relay.token())
    await relay.until_connected(3)
    assert secret(agent)["tls.key"] != old
    assert "next.key" not in secret(agent)


async def test_agent_that_waits_for_approval_says_so_and_comes_in_when_approved(
    relay: ScriptedRelay, agent: AgentUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the fingerprint that a person compares; it asks again with the same key and token."""
    monkeypatch.setattr(link_module, "APPROVAL_POLL_SECONDS", 0.1)
    relay.approval = "waits for approval: fingerprint SHA256:abc"
    await agent.start()

    async def waits() -> bool:
        return agent.link is not None and agent.link.state == relay.approval

    await eventually(waits, "the wait")
    relay.approval = ""
    await relay.until_connected()


async def test_errors_name_the_hop(relay: ScriptedRelay, agent: AgentUnderTest) -> None:
    """DNS, TCP, TLS and upgrade failures are told apart."""
    context = client_context(relay.ca.root_pem, None)

    async def hop(url: str) -> str:
        with pytest.raises(ConnectFailed) as caught:
            await Dialler(url).dial(context)
        assert str(caught.value).startswith(caught.value.hop)
        return caught.value.hop

    assert await hop("wss://no-such-host.invalid:1") == "DNS"
    port = relay.port
    with pytest.raises(ConnectFailed, match="not accepted"):
        await Dialler(relay.url).dial(client_context(ThrowawayCa().root_pem, None))
    plain = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with plain:
        assert await hop(f"wss://127.0.0.1:{plain.sockets[0].getsockname()[1]}") == "TLS"
    await relay.stop()
    assert await hop(f"wss://127.0.0.1:{port}") == "TCP"


async def test_foreign_client_certificate_is_named(relay: ScriptedRelay, agent: AgentUnderTest) -> None:
    """TLS 1.3 reports a refused certificate only at the first read: the error still says TLS."""
    await agent.start()
    await relay.until_connected()
    assert agent.identities is not None
    identity = agent.identities.current
    await agent.stop()
    await relay.stop()
    relay.ca, old = ThrowawayCa(), relay.ca
    await relay.start()
    context = client_context(relay.ca.root_pem, identity)
    with pytest.raises(ConnectFailed) as caught:
        await Dialler(relay.url).dial(context)
    assert caught.value.hop == "TLS"
    assert "certificate" in caught.value.reason or "alert" in caught.value.reason
    assert old.root_pem != relay.ca.root_pem


async def test_secrets_leave_no_trace(
    relay: ScriptedRelay, agent: AgentUnderTest, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither token nor keys appear in what the agent logs, nor on its disk."""
    await agent.start()
    await relay.until_connected()
    relay.deploy("job0000000000000001", bundle_of(1))
    await relay.until_result("job0000000000000001")
    written = "".join(capfd.readouterr())
    assert agent.token_file.read_text().split("_")[2] not in written
    private = base64.b64decode(secret(agent)["tls.key"])
    for folder, _, names in os.walk(agent.spool):
        for name in names:
            assert private not in (Path(folder) / name).read_bytes()
    assert "PRIVATE KEY" not in written
    assert repr(agent.identities.current).find("PRIVATE") < 0 if agent.identities else False


@pytest.mark.parametrize(("ahead_seconds", "is_named"), [(240, False), (-240, False), (360, True), (-360, True)])
async def test_a_clock_that_is_wrong_by_minutes_does_no_harm_and_is_named_beyond_five(
    relay: ScriptedRelay, agent: AgentUnderTest, ahead_seconds: float, *, is_named: bool
) -> None:
    """The certificate is valid five minutes before it was made, and renewed in time by either clock."""
    agent.clock = lambda: time.time() + ahead_seconds
    relay.certificate_seconds = 1200
    with capture_logs() as logs:
        await agent.start()
        await relay.until_connected()

        async def named() -> bool:
            return any(line["event"] == "clock.skewed" for line in logs)

        if is_named:
            await eventually(named, "the clock to be named")
        else:
            assert not await named()
    assert not relay.rejoins


async def test_a_clock_that_is_wrong_by_days_is_named_and_costs_one_rejoin_per_connection(
    relay: ScriptedRelay, agent: AgentUnderTest
) -> None:
    """By its own clock every certificate has ended; the relay's word counts."""
    agent.clock = lambda: time.time() + 2 * 86_400
    await agent.start()
    await relay.until_connected()
    assert len(relay.rejoins) <= 1


class Nowhere:
    """Takes content and keeps none."""

    size = 0

    def write(self, piece: bytes) -> None:
        """Forget it."""


async def test_a_fetch_waits_for_the_next_connection_when_this_one_leaves(
    relay: ScriptedRelay, agent: AgentUnderTest
) -> None:
    """Between leaving and saying so it must not be tried again without a pause: nothing else of the agent would run."""
    await agent.start()
    await relay.until_connected()
    assert agent.link is not None
    assert agent.link._connection is not None
    before = agent.link._connection
    before.leave("the relay asked to reconnect")
    fetching = asyncio.create_task(agent.link.fetch("a" * 64, Nowhere()))

    async def is_another() -> bool:
        connection = agent.link._connection if agent.link is not None else None
        return connection not in (None, before) and connection.is_open

    await eventually(is_another, "the next connection")
    fetching.cancel()
    await asyncio.wait([fetching])


async def until_told(relay: ScriptedRelay, *totals: int) -> None:
    """Wait until these reports of drift have arrived, each known by how many objects it counts."""

    async def told() -> bool:
        return [report.total for report in relay.drift] == list(totals)

    await eventually(told, f"reports of {totals}")


async def test_drift_is_told_again_on_each_connection_until_it_is_acknowledged(
    relay: ScriptedRelay, agent: AgentUnderTest
) -> None:
    """The newest of it: what was never sent as the relay was away is no story that must be told."""
    relay.acknowledges_drift = False
    await agent.start()
    await relay.until_connected()
    assert agent.drift is not None
    shop = EnvironmentKey("acme", "shop", "staging")
    agent.drift.put(shop, {"mode": "report", "total": 1})
    await until_told(relay, 1)
    await relay.stop()
    for total in (2, 3):
        agent.drift.put(shop, {"mode": "report", "total": total})
    relay.acknowledges_drift = True
    await relay.start()
    await until_told(relay, 1, 3)
    relay.go_away()
    await relay.until_connected(3)
    agent.drift.put(EnvironmentKey("acme", "bank", "staging"), {"mode": "off"})
    await until_told(relay, 1, 3, 0)


async def test_a_relay_of_the_version_before_is_told_of_drift_once_a_connection(
    relay: ScriptedRelay, agent: AgentUnderTest
) -> None:
    """It says that it does not know the message; jobs go on, and after its upgrade it is told."""
    relay.knows_drift = False
    await agent.start()
    await relay.until_connected()
    assert agent.drift is not None
    shop, heartbeats = EnvironmentKey("acme", "shop", "staging"), len(relay.heartbeats)
    agent.drift.put(shop, {"mode": "report", "total": 1})
    await until_told(relay, 1)

    async def went_on() -> bool:
        return len(relay.heartbeats) > heartbeats + 1

    await eventually(went_on, "heartbeats after the answer")
    agent.drift.put(shop, {"mode": "report", "total": 2})
    relay.deploy("job0000000000000001", bundle_of(1))
    assert (await relay.until_result("job0000000000000001")).outcome is Outcome.SUCCEEDED
    await until_told(relay, 1)
    relay.knows_drift = True
    relay.go_away()
    await until_told(relay, 1, 2)
