"""Cutting agents off in the store: at once, for good or until undone, and twice is once."""

from __future__ import annotations

import pytest

from fairlead_relay.errors import AgentRefused, EnrolmentRefused, NotFound
from fairlead_relay.store import Store
from fairlead_relay.store.access import check_agent
from fairlead_relay.store.clusters import (
    EnrolmentGrant,
    create_cluster,
    create_enrolment_token,
    enrol_agent,
    find_cluster,
    use_enrolment_token,
)
from fairlead_relay.store.revocation import disable_cluster, disconnect_agent, enable_cluster, revoke_agent
from fairlead_relay.store.waiting import waiting_reason
from fairlead_shared.jobs import JobState
from tests.conformance.domain import ORGANIZATION, START, deploy, enrolled, identity_of
from tests.conformance.queue_actor import connected

ONE = identity_of("one")


async def test_a_disabled_clusters_job_waits_and_says_so(store: Store) -> None:
    """Its agent's connection counts no more at once; enabled, the agent takes the job up where it was."""
    await store.write(deploy)
    agent = await connected(store)
    job = await agent.take()
    for at in (START + 1, START + 2):
        await store.write(lambda c, now=at: disable_cluster(c, ORGANIZATION, "one", now))
    cluster = await store.read(lambda c: find_cluster(c, ORGANIZATION, "one"))
    assert (cluster.state, cluster.disabled_at) == ("disabled", START + 1)
    lost = await agent.look(job)
    assert lost.state is JobState.UNREACHABLE
    reason = await store.read(lambda c: waiting_reason(c, lost, 10, START + 3))
    assert reason.startswith("waits for cluster: disabled since")
    with pytest.raises(AgentRefused, match="was disabled"):
        await agent.connect((job.id, job.attempt, job.token))
    await store.write(lambda c: enable_cluster(c, ORGANIZATION, "one"))
    (verdict,) = await agent.connect((job.id, job.attempt, job.token))
    assert verdict.verdict == "continue"


async def test_a_revoked_agents_tokens_end_too(store: Store) -> None:
    """Its key could use them again; a token made later lets another in."""
    grant = EnrolmentGrant(ORGANIZATION, "one")
    await store.write(lambda c: create_enrolment_token(c, grant, "t" * 16, "hash", START, START + 3600))
    await store.write(lambda c: use_enrolment_token(c, "t" * 16, "hash", "key", START))
    await connected(store)
    for at in (START + 1, START + 2):
        await store.write(lambda c, now=at: revoke_agent(c, ORGANIZATION, "one", now))
    cluster = await store.read(lambda c: find_cluster(c, ORGANIZATION, "one"))
    assert cluster.agent is not None
    assert (cluster.state, cluster.agent.revoked_at, cluster.agent.session_id) == ("revoked", START + 1, None)
    with pytest.raises(AgentRefused, match="was revoked"):
        await store.read(lambda c: check_agent(c, ONE, START))
    with pytest.raises(EnrolmentRefused):
        await store.write(lambda c: use_enrolment_token(c, "t" * 16, "hash", "key", START + 2))
    await store.write(lambda c: create_enrolment_token(c, grant, "u" * 16, "hash", START + 2, START + 3600))
    assert await store.write(lambda c: use_enrolment_token(c, "u" * 16, "hash", "new", START + 3)) == grant
    await store.write(lambda c: enrol_agent(c, ONE, enrolled(key_sha256="new", made_at=START + 3), START + 3))
    await store.read(lambda c: check_agent(c, ONE, START + 3))


async def test_what_is_not_there_cannot_be_cut_off(store: Store) -> None:
    """And is named; an agent that is not connected is no error."""
    await store.write(lambda c: disconnect_agent(c, ORGANIZATION, "one", START))
    for act in (disable_cluster, revoke_agent):
        with pytest.raises(NotFound):
            await store.write(lambda c, call=act: call(c, ORGANIZATION, "nowhere", START))
    with pytest.raises(NotFound):
        await store.write(lambda c: enable_cluster(c, ORGANIZATION, "nowhere"))
    await store.write(lambda c: create_cluster(c, ORGANIZATION, "empty", START))
    with pytest.raises(NotFound, match="agent"):
        await store.write(lambda c: revoke_agent(c, ORGANIZATION, "empty", START))
