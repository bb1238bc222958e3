"""Long-poll requests over real TLS: a whole exchange, and what is refused."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fairlead_relay.errors import RequestInvalid
from fairlead_relay.gateway import poll_channel
from fairlead_relay.gateway.http_request import RequestHead, RequestReader, response
from fairlead_relay.gateway.poll_channel import PollChannel
from fairlead_relay.gateway.polling import Polling
from fairlead_relay.gateway.secure_stream import SecureStream
from fairlead_relay.pki.authority import AgentCertificate, read_agent_certificate
from fairlead_shared.poll_batches import MAX_BATCH_BYTES, POLL_PATH, join_frames, split_frames
from tests.integration.relay.gateway.agent_port import Port, Requests, agent_port
from tests.integration.scripted_agent import make_request
from tests.integration.scripted_relay import ThrowawayCa
from tests.polling import PATIENCE_SECONDS


@pytest.fixture(autouse=True)
def short_holds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hold requests shortly."""
    monkeypatch.setattr(poll_channel, "HOLD_SECONDS", 0.1)
    return iter([None])


def certificate_of(cluster: str) -> AgentCertificate:
    """Return the certificate of a cluster's agent."""
    csr_pem = make_request(ec.generate_private_key(ec.SECP256R1()))
    found = read_agent_certificate(ThrowawayCa().issue_agent(csr_pem, 3600, cluster))
    assert found is not None
    return found


class Polls:
    """A port that answers polls, for whom a test says it is."""

    def __init__(self) -> None:
        self.channels: list[PollChannel] = []
        self.certificate = certificate_of("blue")
        self.refused: bytes | None = None
        self.polling = Polling(lambda _, channel, _path: self.channels.append(channel))

    def refusal(self, _head: RequestHead) -> bytes | None:
        """Return the answer to a request that is not admitted."""
        return self.refused

    async def serve(self, stream: SecureStream) -> None:
        """Answer the requests of one connection."""
        reader = RequestReader(stream)
        try:
            found = await reader.head(10)
            if found is not None:
                await self.polling.serve(stream, reader, found[0], self.certificate, self.refusal)
        except RequestInvalid as error:
            stream.write(response(error.status))


@asynccontextmanager
async def connected(polls: Polls) -> AsyncIterator[tuple[Port, Requests]]:
    """Serve, and connect once."""
    async with asyncio.timeout(PATIENCE_SECONDS), agent_port(polls.serve) as port:
        requests = Requests(*await port.open())
        yield port, requests
        requests.close()


async def test_a_series_of_requests_carries_frames_both_ways() -> None:
    """Begin, send, receive, end, all on one connection."""
    polls = Polls()
    async with connected(polls) as (_, requests):
        begun = await requests.ask("POST", POLL_PATH)
        name = begun.headers["Fairlead-Session"]
        sending = asyncio.create_task(
            requests.ask("POST", POLL_PATH, join_frames([b"up"]), Fairlead_Session=name, Fairlead_Send="1")
        )
        assert await polls.channels[0].receive() == b"up"
        assert (await sending).status == 204
        await polls.channels[0].send(b"down")
        received = await requests.ask("POST", POLL_PATH, Fairlead_Session=name, Fairlead_Receive="1")
        assert split_frames(received.body) == [b"down"]
        empty = await requests.ask("POST", POLL_PATH, Fairlead_Session=name, Fairlead_Receive="2")
        assert (empty.status, empty.body) == (200, b"")
        assert (await requests.ask("DELETE", POLL_PATH, Fairlead_Session=name)).status == 204
        over = await requests.ask("POST", POLL_PATH, Fairlead_Session=name, Fairlead_Receive="2")
        assert over.status == 410


async def test_a_series_belongs_to_the_agent_that_began_it() -> None:
    """Its name is not enough: the certificate must name the same agent."""
    polls = Polls()
    async with connected(polls) as (port, requests):
        name = (await requests.ask("POST", POLL_PATH)).headers["Fairlead-Session"]
        polls.certificate = certificate_of("green")
        other = Requests(*await port.open())
        stolen = await other.ask("POST", POLL_PATH, Fairlead_Session=name, Fairlead_Receive="1")
        assert stolen.status == 410
        other.close()


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [
        ("GET", POLL_PATH, {}, b"", 404),
        ("POST", "/v1/agent/other", {}, b"", 404),
        ("POST", POLL_PATH, {"Fairlead_Session": "unknown"}, b"", 410),
        ("POST", POLL_PATH, {"Fairlead_Session": "known"}, b"", 400),
        ("POST", POLL_PATH, {"Fairlead_Session": "known", "Fairlead_Send": "0"}, b"", 400),
        ("POST", POLL_PATH, {"Fairlead_Session": "known", "Fairlead_Send": "2"}, b"", 409),
        ("POST", POLL_PATH, {"Fairlead_Session": "known", "Fairlead_Receive": "2"}, b"", 409),
        ("POST", POLL_PATH, {"Fairlead_Session": "known", "Fairlead_Send": "1"}, b"\0\0\0\x05abc", 400),
    ],
)
async def test_what_agents_do_not_ask_is_refused(
    method: str, path: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    """With a status that says which mistake it is; the connection stays usable."""
    async with connected(Polls()) as (_, requests):
        name = (await requests.ask("POST", POLL_PATH)).headers["Fairlead-Session"]
        given = {key: name if value == "known" else value for key, value in headers.items()}
        assert (await requests.ask(method, path, body, **given)).status == status
        assert (await requests.ask("POST", POLL_PATH)).status == 200


async def test_each_request_of_a_connection_is_admitted() -> None:
    """One that is not gets its answer, and ends the connection."""
    polls = Polls()
    async with connected(polls) as (_, requests):
        assert (await requests.ask("POST", POLL_PATH)).status == 200
        polls.refused = response(HTTPStatus.SERVICE_UNAVAILABLE)
        assert (await requests.ask("POST", POLL_PATH)).status == 503
        with pytest.raises(EOFError):
            await requests.ask("POST", POLL_PATH)
    assert len(polls.channels) == 1


async def test_a_body_larger_than_a_batch_ends_the_connection() -> None:
    """It is refused by its length, before it is read."""
    async with connected(Polls()) as (_, requests):
        head = f"POST {POLL_PATH} HTTP/1.1\r\nContent-Length: {MAX_BATCH_BYTES + 1}\r\n\r\n"
        assert (await requests.raw(head.encode())).status == 413
