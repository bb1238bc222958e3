"""The dispatcher with its tasks running: offers, answers, cancels and connections, as the gateway uses it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace

import pytest
import structlog
from sqlalchemy import Connection

import fairlead_relay.dispatch.dispatcher as dispatcher_module
from fairlead_relay.bus import LocalBus
from fairlead_relay.dispatch import Dispatcher, DispatchLimits
from fairlead_relay.errors import SessionReplaced, StoreUnavailable
from fairlead_relay.store import Store
from fairlead_relay.store.applications import Environment, create_application, create_environment
from fairlead_relay.store.clusters import create_cluster, enrol_agent, find_cluster
from fairlead_relay.store.jobs import enqueue_job, find_job, stop_job
from fairlead_relay.store.leases import LeasedJob, LeaseTo, lease_next
from fairlead_relay.store.organizations import ensure_organization
from fairlead_relay.store.relays import beat
from fairlead_shared.errors import ErrorCode, QueueFull
from fairlead_shared.frames import (
    Heartbeat,
    HeartbeatJob,
    JobAccept,
    JobCancel,
    JobOffer,
    JobRefuse,
    Progress,
)
from fairlead_shared.identity import AgentIdentity, AgentName, ClusterName, OrganizationName
from fairlead_shared.jobs import JobState
from tests.conformance.conftest import MakeStore
from tests.conformance.domain import (
    APPLICATION,
    ORGANIZATION,
    START,
    deploy,
    enrolled,
    health_job,
    hello,
    identity_of,
    result,
    seed,
    step,
)
from tests.polling import eventually

LIMITS = DispatchLimits(sweep_seconds=0.05)
MakeDispatcher = Callable[..., Awaitable[Dispatcher]]


@dataclass
class Clock:
    """A clock that a test moves."""

    now: float = START
    ahead: float = 0.0
    """By how much it was set."""

    def __call__(self) -> float:
        """Return seconds since the epoch."""
        return self.now + self.ahead

    def steady(self) -> float:
        """Return seconds that nobody sets."""
        return self.now


@dataclass
class Link:
    """A connection that keeps what it is given."""

    offers: list[JobOffer] = field(default_factory=list)
    cancels: list[JobCancel] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    full: bool = False

    def offer(self, message: JobOffer) -> None:
        """Keep an offer, or have no room for it."""
        if self.full:
            raise QueueFull("no room")
        self.offers.append(message)

    def cancel(self, message: JobCancel) -> None:
        """Keep a cancel."""
        self.cancels.append(message)

    def close(self, reason: str, code: ErrorCode = ErrorCode.OVERLOADED) -> None:
        """Keep the reason."""
        self.closed.append(reason)


class BrokenLink(Link):
    """A connection with a defect that nobody foresaw."""

    was_asked = False

    def offer(self, message: JobOffer) -> None:
        """Fail as nothing should."""
        self.was_asked = True
        raise RuntimeError("a defect")


@pytest.fixture
def clock() -> Clock:
    """The clock of every dispatcher in a test."""
    return Clock()


@pytest.fixture
async def make_dispatcher(clock: Clock) -> AsyncIterator[MakeDispatcher]:
    """Start a dispatcher; each call stands for one more relay."""
    dispatchers: list[Dispatcher] = []

    async def make(
        store: Store, bus: LocalBus, relay_id: str = "relay-1", limits: DispatchLimits = LIMITS
    ) -> Dispatcher:
        dispatcher = Dispatcher(store, bus, relay_id, clock, limits, structlog.get_logger(), monotonic=clock.steady)
        dispatchers.append(dispatcher)
        await dispatcher.start()
        return dispatcher

    yield make
    for dispatcher in dispatchers:
        await dispatcher.stop()


@pytest.fixture
async def dispatcher(make_dispatcher: MakeDispatcher, store: Store, bus: LocalBus) -> Dispatcher:
    """The dispatcher of the first relay."""
    return await make_dispatcher(store, bus)


async def connect(dispatcher: Dispatcher, link: Link, *jobs: tuple[str, int, int]) -> str:
    """Connect the agent of cluster one, take offers, and return the session."""
    opened = await dispatcher.connect(identity_of("one"), hello(*jobs), link)
    dispatcher.start_offers(opened.session_id)
    return opened.session_id


async def offered(link: Link, count: int = 1) -> JobOffer:
    """Return the newest offer once there are so many."""
    await eventually(_answer(lambda: len(link.offers) >= count), f"{count} offers")
    return link.offers[-1]


def _answer(condition: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    async def answer() -> bool:
        return condition()

    return answer


def accepting(offer: JobOffer) -> JobAccept:
    """Return the answer that takes an offer."""
    return JobAccept(job_id=offer.job_id, attempt=offer.attempt, token=offer.token)


def busy(offer: JobOffer) -> JobRefuse:
    """Return the answer that puts an offer off."""
    return JobRefuse(
        job_id=offer.job_id,
        attempt=offer.attempt,
        token=offer.token,
        code=ErrorCode.OVERLOADED,
        message="busy",
        temporary=True,
    )


async def test_a_job_is_offered_as_soon_as_it_is_queued(dispatcher: Dispatcher, store: Store) -> None:
    """The offer carries statement, size, environment, deadline and where numbering goes on."""
    link = Link()
    await connect(dispatcher, link)
    deployment = await store.write(deploy)
    offer = await offered(link)
    assert (offer.job_id, offer.attempt, offer.token, offer.job_kind) == (deployment.job.id, 1, 1, "deploy")
    assert offer.environment == (ORGANIZATION, APPLICATION, "one-staging")
    assert offer.statement is not None
    assert (offer.bundle_bytes, offer.wait_seconds, offer.acknowledged_seq) == (10, 600, 0)
    assert (offer.deadline, offer.lease_seconds) == (START + 3600, LIMITS.lease_seconds)


async def test_jobs_that_waited_for_their_agent_are_offered_when_it_connects(
    dispatcher: Dispatcher, store: Store
) -> None:
    """But only once the welcome is on its way."""
    await store.write(deploy)
    link = Link()
    opened = await dispatcher.connect(identity_of("one"), hello(), link)
    await dispatcher.sweep()
    await dispatcher.serve_due()
    assert link.offers == []
    dispatcher.start_offers(opened.session_id)
    await offered(link)


async def test_the_next_job_is_offered_when_one_ends(dispatcher: Dispatcher, store: Store) -> None:
    """Progress is acknowledged by its highest number."""
    link = Link()
    session = await connect(dispatcher, link)
    for _ in range(2):
        await store.write(deploy)
    offer = await offered(link)
    assert await dispatcher.accept(session, accepting(offer))
    messages = [
        Progress(job_id=offer.job_id, token=offer.token, seq=seq, event=event)
        for seq, event in enumerate((step(1), step(2), result(), step(3)), start=1)
    ]
    assert await dispatcher.record(session, messages) == {offer.job_id: 3}
    assert (await offered(link, 2)).job_id != offer.job_id


async def test_progress_of_several_jobs_is_stored_in_one_go(
    make_dispatcher: MakeDispatcher, make_store: MakeStore, bus: LocalBus
) -> None:
    """One whose token is old is left out, the others are not."""
    store = await make_store(bus)
    await store.write(lambda c: seed(c, environments=("a", "b")))
    dispatcher = await make_dispatcher(store, bus)
    link = Link()
    session = await connect(dispatcher, link)
    for name in "ab":
        await store.write(lambda c, e=f"one-{name}": deploy(c, e))
    await offered(link, 2)
    first, second = link.offers
    for offer in link.offers:
        assert await dispatcher.accept(session, accepting(offer))
    messages = [
        Progress(job_id=first.job_id, token=first.token, seq=1, event=step(1)),
        Progress(job_id=second.job_id, token=second.token + 1, seq=1, event=step(1)),
        Progress(job_id=first.job_id, token=first.token, seq=2, event=step(2)),
    ]
    assert await dispatcher.record(session, messages) == {first.job_id: 2}


async def test_a_cancel_reaches_the_agent_once(dispatcher: Dispatcher, store: Store) -> None:
    """It is sent again only if nothing comes of it for long."""
    link = Link()
    session = await connect(dispatcher, link)
    deployment = await store.write(deploy)
    offer = await offered(link)
    await dispatcher.accept(session, accepting(offer))
    await store.write(lambda c: stop_job(c, ORGANIZATION, deployment.job.id, "supersede", START))
    await eventually(_answer(lambda: bool(link.cancels)), "the cancel")
    for _ in range(3):
        await dispatcher.sweep()
        await dispatcher.serve_due()
    assert link.cancels == [JobCancel(job_id=offer.job_id, token=offer.token, superseded=True)]


async def test_a_temporary_refusal_is_offered_again_later(dispatcher: Dispatcher, store: Store, clock: Clock) -> None:
    """Under a new token, when the agent may have room again."""
    link = Link()
    session = await connect(dispatcher, link)
    await store.write(deploy)
    offer = await offered(link)
    refusal = JobRefuse(
        job_id=offer.job_id, attempt=1, token=1, code=ErrorCode.OVERLOADED, message="ten jobs run", temporary=True
    )
    await dispatcher.refuse(session, refusal)
    job = await store.read(lambda c: find_job(c, ORGANIZATION, offer.job_id))
    assert (job.state, job.reason) == (JobState.QUEUED, "its agent cannot take it now: ten jobs run")
    clock.now += LIMITS.busy_seconds
    assert (await offered(link, 2)).token == 2


async def test_a_refusal_for_good_ends_the_job(dispatcher: Dispatcher, store: Store) -> None:
    """With the agent's words as its cause."""
    link = Link()
    session = await connect(dispatcher, link)
    await store.write(deploy)
    offer = await offered(link)
    refusal = JobRefuse(
        job_id=offer.job_id, attempt=1, token=1, code=ErrorCode.NOT_BOUND, message="not bound", temporary=False
    )
    await dispatcher.refuse(session, refusal)
    job = await store.read(lambda c: find_job(c, ORGANIZATION, offer.job_id))
    assert (job.state, job.cause) == (JobState.REFUSED, "not bound")


async def test_a_congested_connection_gets_its_offer_later(dispatcher: Dispatcher, store: Store, clock: Clock) -> None:
    """The job waits in the store, not in memory."""
    link = Link(full=True)
    await connect(dispatcher, link)
    deployment = await store.write(deploy)

    async def is_back() -> bool:
        return (await store.read(lambda c: find_job(c, ORGANIZATION, deployment.job.id))).reason != ""

    await eventually(is_back, "the job to be back in the queue")
    link.full = False
    clock.now += LIMITS.busy_seconds
    assert (await offered(link)).token == 2


async def test_a_newer_connection_closes_the_older(dispatcher: Dispatcher, store: Store) -> None:
    """The older one's end, whenever it comes, does not touch the newer."""
    older, newer = Link(), Link()
    first = await connect(dispatcher, older)
    second = await connect(dispatcher, newer)
    assert older.closed == ["a newer connection of the same agent took over"]
    await dispatcher.disconnect(first)
    await store.write(deploy)
    await offered(newer)
    assert older.offers == []
    assert (await dispatcher.heartbeat(second, Heartbeat(number=4))).number == 4
    with pytest.raises(SessionReplaced):
        await dispatcher.heartbeat(first, Heartbeat(number=5))


async def test_a_connection_to_another_relay_closes_the_one_here(
    dispatcher: Dispatcher, make_dispatcher: MakeDispatcher, make_store: MakeStore, store: Store
) -> None:
    """The sweep finds out; the store had given the older one nothing more anyway."""
    bus = LocalBus()
    other = await make_dispatcher(await make_store(bus), bus, "relay-2")
    older, newer = Link(), Link()
    await connect(dispatcher, older)
    await connect(other, newer)
    await eventually(_answer(lambda: bool(older.closed)), "the older connection to be closed")
    await store.write(deploy)
    await offered(newer)
    assert older.offers == []


async def test_a_heartbeat_renews_leases_and_notes_that_the_agent_was_seen(
    dispatcher: Dispatcher, store: Store, clock: Clock
) -> None:
    """What is not renewed is not the agent's."""
    link = Link()
    session = await connect(dispatcher, link)
    await store.write(deploy)
    offer = await offered(link)
    await dispatcher.accept(session, accepting(offer))
    clock.now += 50
    claims = (HeartbeatJob(job_id=offer.job_id, token=offer.token), HeartbeatJob(job_id="unknown", token=1))
    answer = await dispatcher.heartbeat(session, Heartbeat(number=1, jobs=claims))
    assert (answer.renewed, answer.lease_seconds) == ((offer.job_id,), LIMITS.lease_seconds)
    clock.now += 50

    async def seen_at() -> bool:
        agent = (await store.read(lambda c: find_cluster(c, ORGANIZATION, "one"))).agent
        return agent is not None and agent.last_seen_at == START + 50

    await eventually(seen_at, "the agent to be seen")
    assert (await store.read(lambda c: find_job(c, ORGANIZATION, offer.job_id))).state is JobState.RUNNING
    assert link.closed == []


async def test_a_lease_that_runs_out_closes_its_connection(dispatcher: Dispatcher, store: Store, clock: Clock) -> None:
    """The agent comes back and both agree again."""
    link = Link()
    session = await connect(dispatcher, link)
    await store.write(deploy)
    offer = await offered(link)
    await dispatcher.accept(session, accepting(offer))
    clock.now += LIMITS.lease_seconds
    await eventually(_answer(lambda: bool(link.closed)), "the connection to be closed")
    again = Link()
    opened = await dispatcher.connect(identity_of("one"), hello((offer.job_id, 1, 1)), again)
    assert [verdict.verdict for verdict in opened.verdicts] == ["continue"]


async def test_a_restarted_relay_goes_on_where_it_was(
    dispatcher: Dispatcher, make_dispatcher: MakeDispatcher, store: Store, bus: LocalBus
) -> None:
    """The agent that comes back with its job goes on with it; the queue is served as before."""
    session = await connect(dispatcher, link := Link())
    deployment = await store.write(deploy)
    offer = await offered(link)
    await dispatcher.accept(session, accepting(offer))
    await dispatcher.stop()
    restarted = await make_dispatcher(store, bus)
    job = await store.read(lambda c: find_job(c, ORGANIZATION, deployment.job.id))
    assert job.state is JobState.UNREACHABLE
    second = await connect(restarted, Link(), (offer.job_id, 1, 1))
    last = Progress(job_id=offer.job_id, token=1, seq=1, event=result())
    assert await restarted.record(second, [last]) == {offer.job_id: 1}


async def test_no_more_is_offered_to_a_session_that_goes_away(dispatcher: Dispatcher, store: Store) -> None:
    """A relay that drains lets the jobs wait for the next connection."""
    session = await connect(dispatcher, link := Link())
    dispatcher.stop_offers(session)
    await store.write(deploy)
    await dispatcher.sweep()
    await dispatcher.serve_due()
    assert link.offers == []


async def test_many_agents_take_turns(make_dispatcher: MakeDispatcher, make_store: MakeStore, bus: LocalBus) -> None:
    """More agents than one transaction serves, one of them with a long queue."""
    store = await make_store(bus)
    clusters = [f"c{number}" for number in range(7)]
    await store.write(lambda c: seed(c, clusters, ("a", "b", "c")))
    for _ in range(3):
        for name in "abc":
            await store.write(lambda c, e=f"c0-{name}": deploy(c, e))
    for cluster in clusters[1:]:
        await store.write(lambda c, e=f"{cluster}-a": deploy(c, e))
    dispatcher = await make_dispatcher(store, bus, limits=replace(LIMITS, agents_per_commit=2, jobs_per_agent=2))
    links = {cluster: Link() for cluster in clusters}
    for cluster, link in links.items():
        opened = await dispatcher.connect(identity_of(cluster), hello(), link)
        dispatcher.start_offers(opened.session_id)
    await eventually(_answer(lambda: all(link.offers for link in links.values())), "an offer for each agent")
    assert len(links["c0"].offers) == 2


async def test_a_greedy_organization_does_not_delay_another(make_store: MakeStore, bus: LocalBus, clock: Clock) -> None:
    """All its agents woke first, each with several jobs; a single job of another organization is in the next round."""
    store = await make_store(bus)
    clusters = [f"c{number}" for number in range(40)]
    await store.write(lambda c: seed(c, clusters, ("a", "b", "c")))
    await store.write(lambda c: [deploy(c, f"{cluster}-{name}") for cluster in clusters for name in "abc"])
    modest = AgentIdentity(OrganizationName("globex"), ClusterName("one"), AgentName("default"))

    def seed_modest(connection: Connection) -> None:
        ensure_organization(connection, "globex", START)
        create_cluster(connection, "globex", "one", START)
        enrol_agent(connection, modest, enrolled(), START)
        create_application(connection, "globex", APPLICATION, START)
        create_environment(connection, Environment("globex", APPLICATION, "one-a", "staging", "one", "shop", START))
        enqueue_job(connection, replace(health_job("one-a"), organization="globex"), START)

    await store.write(seed_modest)
    limits = replace(LIMITS, agents_per_commit=8, leases_per_commit=10)
    dispatcher = Dispatcher(store, bus, "relay-1", clock, limits, structlog.get_logger(), monotonic=clock.steady)
    links = [Link() for _ in clusters]
    for identity, link in [*zip(map(identity_of, clusters), links, strict=True), (modest, last := Link())]:
        opened = await dispatcher.connect(identity, hello(), link)
        dispatcher.start_offers(opened.session_id)
    await dispatcher.serve_due()
    assert len(last.offers) == 1
    assert sum(len(link.offers) for link in links) == 9
    rounds = 1
    while sum(len(link.offers) for link in links) < 120:
        await dispatcher.serve_due()
        rounds += 1
        assert rounds < 40
    assert {len(link.offers) for link in links} == {3}


async def test_the_dispatcher_outlives_a_store_that_is_away(
    dispatcher: Dispatcher, store: Store, bus: LocalBus
) -> None:
    """It waits and goes on; what the gateway asks meanwhile fails and may be asked again."""
    link = Link()
    session = await connect(dispatcher, link)
    await store.stop()
    with pytest.raises(StoreUnavailable):
        await dispatcher.record(session, [Progress(job_id="job", token=1, seq=1, event=step(1))])
    await store.start()
    await store.write(deploy)
    await offered(link)


async def test_a_defect_with_one_offer_does_not_stop_the_dispatch_of_others(
    make_dispatcher: MakeDispatcher, make_store: MakeStore, bus: LocalBus
) -> None:
    """What nobody foresaw is logged, and the task goes on: a dispatch that ended would look like an idle relay."""
    store = await make_store(bus)
    await store.write(lambda c: seed(c, ["one", "two"], ("a",)))
    dispatcher = await make_dispatcher(store, bus)
    broken, whole = BrokenLink(), Link()
    for cluster, link in (("one", broken), ("two", whole)):
        opened = await dispatcher.connect(identity_of(cluster), hello(), link)
        dispatcher.start_offers(opened.session_id)
    await store.write(lambda c: deploy(c, "one-a"))
    await eventually(_answer(lambda: broken.was_asked), "the defect")
    await store.write(lambda c: deploy(c, "two-a"))
    await offered(whole)


@pytest.mark.parametrize("jump", [86_400.0, -86_400.0])
async def test_a_clock_that_jumps_ends_nothing_until_it_settled(
    make_dispatcher: MakeDispatcher, store: Store, clock: Clock, bus: LocalBus, jump: float
) -> None:
    """Then it counts again: what is overdue by the new time ends."""
    dispatcher = await make_dispatcher(store, bus, limits=replace(LIMITS, sweep_seconds=3600))
    link = Link()
    session = await connect(dispatcher, link)
    running, waiting = [(await store.write(lambda c, e=f"one-{name}": deploy(c, e))).job for name in ("staging",) * 2]
    offer = await offered(link)
    clock.ahead = jump
    await dispatcher.sweep()
    assert await dispatcher.accept(session, accepting(offer))
    clock.now += LIMITS.settle_seconds - 1
    await dispatcher.sweep()
    states = [(await store.read(lambda c, i=job.id: find_job(c, ORGANIZATION, i))).state for job in (running, waiting)]
    assert (states, link.closed) == ([JobState.RUNNING, JobState.QUEUED], [])
    clock.now += 1
    await dispatcher.sweep()
    states = [(await store.read(lambda c, i=job.id: find_job(c, ORGANIZATION, i))).state for job in (running, waiting)]
    if jump > 0:
        assert (states, len(link.closed)) == ([JobState.FAILED, JobState.EXPIRED], 1)
    else:
        assert (states, link.closed) == ([JobState.RUNNING, JobState.QUEUED], [])


async def test_a_job_that_was_put_off_does_not_wait_for_a_clock_that_went_back(
    make_dispatcher: MakeDispatcher, store: Store, clock: Clock, bus: LocalBus
) -> None:
    """Neither while the relay serves nor after its start; and an offer without an answer is given up in time."""
    dispatcher = await make_dispatcher(store, bus)
    link = Link()
    session = await connect(dispatcher, link)
    await store.write(deploy)
    offer = await offered(link)
    await dispatcher.refuse(session, busy(offer))
    clock.ahead -= 86_400
    offer = await offered(link, 2)
    await dispatcher.refuse(session, busy(offer))
    await dispatcher.stop()
    clock.ahead -= 86_400
    again = await make_dispatcher(store, bus)
    link = Link()
    await connect(again, link)
    offer = await offered(link)
    clock.ahead -= 86_400

    async def is_mended() -> bool:
        leased_at = (await store.read(lambda c: find_job(c, ORGANIZATION, offer.job_id))).leased_at
        return leased_at is not None and leased_at <= clock()

    await eventually(is_mended, "the offer to be of a time that has been")


async def test_an_agent_of_a_relay_that_died_for_good_is_offline_before_its_lease_ends(
    make_dispatcher: MakeDispatcher, store: Store, clock: Clock, bus: LocalBus
) -> None:
    """Another relay notices by the counts alone, whatever the clocks say; one that lives is never taken for dead."""
    limits = replace(LIMITS, sweep_seconds=3600)
    dies = await make_dispatcher(store, bus, "relay-1", limits)
    lives = await make_dispatcher(store, bus, "relay-2", limits)

    async def is_connected() -> bool:
        return (await store.read(lambda c: find_cluster(c, ORGANIZATION, "one"))).state == "connected"

    await connect(dies, Link())
    for _ in range(60):
        clock.now += 1
        await dies.sweep()
        await lives.sweep()
    assert await is_connected()
    # And then it sweeps no more.
    for _ in range(int(limits.silent_seconds) - 1):
        clock.now += 1
        await lives.sweep()
    assert await is_connected()
    clock.now += 1
    await lives.sweep()
    assert not await is_connected()


async def test_a_relay_that_stops_in_order_is_missed_by_nobody(
    make_dispatcher: MakeDispatcher, store: Store, bus: LocalBus
) -> None:
    """An upgrade of several relays is no failure: the others have nothing to say of it."""
    stops = await make_dispatcher(store, bus, "relay-1")
    await make_dispatcher(store, bus, "relay-2")
    await stops.disconnect(await connect(stops, Link()))
    await stops.stop()
    assert "relay-1" not in await store.write(lambda c: beat(c, "relay-2"))


async def test_an_agent_that_holds_as_much_as_it_may_costs_no_attempt_to_lease(
    make_dispatcher: MakeDispatcher, make_store: MakeStore, bus: LocalBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each wakes for all that happens in its cluster, with a long queue behind it."""
    store = await make_store(bus)
    await store.write(lambda c: seed(c, ("one",), ("a", "b", "c")))
    for name in "abc":
        await store.write(lambda c, e=f"one-{name}": deploy(c, e))
    attempts: list[LeaseTo] = []

    def counted(connection: Connection, to: LeaseTo, now: float) -> LeasedJob | None:
        attempts.append(to)
        return lease_next(connection, to, now)

    monkeypatch.setattr(dispatcher_module, "lease_next", counted)
    dispatcher = await make_dispatcher(store, bus, limits=replace(LIMITS, jobs_per_agent=2))
    await connect(dispatcher, link := Link())
    await eventually(_answer(lambda: len(link.offers) == 2), "as many offers as it may hold")
    await dispatcher.sweep()
    await dispatcher.serve_due()
    assert len(attempts) == 2
