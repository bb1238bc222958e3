"""Inner TLS: whom each side accepts, and what is refused."""

import ssl

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fairlead_agent.identity_store import _load_pair, signing_request
from fairlead_shared.errors import ErrorCode, FrameInvalid
from fairlead_shared.frames import MAX_FRAME_BYTES
from fairlead_shared.inner_tls import InnerTls
from tests.integration.scripted_relay import ThrowawayCa

CA = ThrowawayCa()
SERVER = CA.server_context(("127.0.0.1",))


def client(ca: ThrowawayCa = CA, presented: ThrowawayCa | None = CA, life_seconds: float = 3600) -> ssl.SSLContext:
    """Return an agent's context: whom it trusts, and whose certificate it presents."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=ca.root_pem)
    if presented is not None:
        key = ec.generate_private_key(ec.SECP256R1())
        _load_pair(context, presented.issue_agent(signing_request(key), life_seconds), key)
    return context


class Pair:
    """Both sides, and what either received."""

    def __init__(self, context: ssl.SSLContext, host: str = "localhost") -> None:
        self.agent, self.relay = InnerTls(context, host), InnerTls(SERVER, None)
        self.of_agent: list[bytes] = []
        self.of_relay: list[bytes] = []
        self.agent.start()

    def exchange(self) -> None:
        """Carry messages until neither side has any."""
        while (up := self.agent.data_to_send()) or (down := self.relay.data_to_send()):
            for message in up:
                self.of_agent += self.relay.receive(message)
            if not up:
                for message in down:
                    self.of_relay += self.agent.receive(message)


def test_both_sides_prove_themselves_and_frames_pass_both_ways() -> None:
    """The relay has the agent's certificate, and frames of any size arrive whole."""
    pair = Pair(client())
    pair.exchange()
    assert (pair.agent.is_established, pair.relay.is_established) == (True, True)
    assert pair.relay.peer_certificate() is not None
    frames = [b"", b"up", bytes(MAX_FRAME_BYTES)]
    for frame in frames:
        pair.agent.send(frame)
        pair.relay.send(frame)
    pair.exchange()
    assert (pair.of_agent, pair.of_relay) == (frames, frames)
    pair.agent.close()
    pair.exchange()
    assert pair.relay.is_over
    assert pair.relay.receive(b"late") == []


def test_messages_stay_within_the_limit_of_a_frame() -> None:
    """A channel carries nothing larger."""
    pair = Pair(client())
    pair.exchange()
    pair.agent.send(bytes(MAX_FRAME_BYTES))
    assert max(map(len, pair.agent.data_to_send())) <= MAX_FRAME_BYTES


def test_without_a_certificate_the_relay_has_none() -> None:
    """As on its port: what such a client may do is the gateway's business."""
    pair = Pair(client(presented=None))
    pair.exchange()
    assert pair.relay.is_established
    assert pair.relay.peer_certificate() is None


@pytest.mark.parametrize(
    ("context", "host", "reason"),
    [
        (client(ca=ThrowawayCa()), "localhost", "certificate verify failed"),
        (client(), "elsewhere", "Hostname mismatch"),
    ],
    ids=["another-relay", "another-name"],
)
def test_the_agent_accepts_its_relay_alone(context: ssl.SSLContext, host: str, reason: str) -> None:
    """Whoever ended the outer TLS cannot stand for it; the relay is told by an alert."""
    pair = Pair(context, host)
    with pytest.raises(ssl.SSLError, match=reason):
        pair.exchange()
    assert pair.agent.is_over
    with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
        pair.exchange()
    assert not pair.relay.is_established


@pytest.mark.parametrize(
    ("context", "alert"),
    [(client(presented=ThrowawayCa()), "unknown ca|decrypt error"), (client(life_seconds=-1), "expired")],
    ids=["foreign", "expired"],
)
def test_the_relay_accepts_its_own_agents_alone(context: ssl.SSLContext, alert: str) -> None:
    """The agent learns why with the first message after its handshake."""
    pair = Pair(context)
    with pytest.raises(ssl.SSLError, match=r"(?i)verify failed"):
        pair.exchange()
    assert not pair.relay.is_established
    with pytest.raises(ssl.SSLError, match=f"(?i){alert}"):
        pair.exchange()


def test_a_frame_over_the_limit_ends_it() -> None:
    """By its announced length, before it is collected."""
    pair = Pair(client())
    pair.exchange()
    pair.agent._tls.write((MAX_FRAME_BYTES + 1).to_bytes(4, "big"))
    with pytest.raises(FrameInvalid) as refused:
        pair.exchange()
    assert refused.value.code is ErrorCode.TOO_LARGE
    assert pair.relay.is_over
    pair.relay.send(b"nothing more")
    assert pair.relay.data_to_send() == []
