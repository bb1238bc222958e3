"""Whether an API server's refusals can be believed, by what it says of its readiness and since when."""

import pytest

from fairlead_agent.kube.readiness import UNASKABLE_SECONDS, UNREADY_SECONDS, Readiness


class _Server:
    """An API server whose answers and clock a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.status, self.now, self.asked = 200, 1000.0, 0
        self.readiness = Readiness(self._answer)
        monkeypatch.setattr("fairlead_agent.kube.readiness.time.monotonic", lambda: self.now)

    async def _answer(self) -> int:
        self.asked += 1
        return self.status

    async def is_ready(self, status: int, *, after: float) -> bool:
        """Ask so many seconds later."""
        self.status, self.now = status, self.now + after
        return await self.readiness.is_ready()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> _Server:
    """Return one that was never asked."""
    return _Server(monkeypatch)


async def test_many_who_ask_at_once_cost_one_question(server: _Server) -> None:
    """Each object of a bundle may be refused at the same moment."""
    assert [await server.is_ready(200, after=0.01) for _ in range(20)] == [True] * 20
    assert server.asked == 1


@pytest.mark.parametrize(("status", "patience"), [(403, UNASKABLE_SECONDS), (500, UNREADY_SECONDS)])
async def test_what_never_is_ready_is_believed_after_a_while(server: _Server, status: int, patience: float) -> None:
    """Not before, and by one that may not be asked sooner."""
    assert not await server.is_ready(status, after=0)
    assert not await server.is_ready(status, after=patience)
    assert await server.is_ready(status, after=1)


@pytest.mark.parametrize("between", [0, 200])
async def test_patience_begins_anew_with_each_start(server: _Server, between: int) -> None:
    """A server that was ready, or gone, since then is another that starts."""
    await server.is_ready(500, after=0)
    await server.is_ready(between, after=UNREADY_SECONDS)
    assert not await server.is_ready(500, after=1)


async def test_what_was_said_long_ago_does_not_count(server: _Server) -> None:
    """Nobody was refused meanwhile, so nobody asked: this may be another start."""
    await server.is_ready(403, after=0)
    assert not await server.is_ready(403, after=3600)
    assert await server.is_ready(403, after=UNASKABLE_SECONDS + 1)
