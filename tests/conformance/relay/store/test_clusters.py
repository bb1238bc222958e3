"""Clusters, their agents and enrolment tokens."""

from __future__ import annotations

import pytest

from fairlead_relay.errors import EnrolmentRefused, NotFound
from fairlead_relay.store import Store
from fairlead_relay.store.clusters import (
    EnrolmentGrant,
    create_cluster,
    create_enrolment_token,
    enrol_agent,
    find_cluster,
    renew_certificate,
    use_enrolment_token,
)
from fairlead_shared.errors import ErrorCode
from tests.conformance.domain import ORGANIZATION, START, enrolled, identity_of

TOKEN = "token0000000000000"


async def test_a_cluster_is_pending_until_its_agent_enrols(store: Store) -> None:
    """Then it is offline until the agent connects."""
    made = await store.write(lambda c: create_cluster(c, ORGANIZATION, "new", START))
    assert made.state == "pending"
    await store.write(lambda c: enrol_agent(c, identity_of("new"), enrolled(sealing_key="key"), START))
    cluster = await store.read(lambda c: find_cluster(c, ORGANIZATION, "new"))
    assert (cluster.state, cluster.agent and cluster.agent.sealing_key) == ("offline", "key")


async def test_an_agent_that_enrols_again_replaces_its_key(store: Store) -> None:
    """A reinstalled agent has new keys and stays the same agent."""
    await store.write(lambda c: enrol_agent(c, identity_of("one"), enrolled(sealing_key="new-key"), START))
    await store.write(lambda c: renew_certificate(c, identity_of("one"), "0c", START, START + 99))
    agent = (await store.read(lambda c: find_cluster(c, ORGANIZATION, "one"))).agent
    assert agent is not None
    assert (agent.sealing_key, agent.certificate_serial, agent.certificate_expires_at) == ("new-key", "0c", START + 99)
    with pytest.raises(NotFound, match="no agent is named 'acme/nowhere/default'"):
        await store.write(lambda c: renew_certificate(c, identity_of("nowhere"), "0c", START, START))


async def test_an_enrolment_token_serves_one_key(store: Store) -> None:
    """The same key may ask again until the expiry, another one may not."""
    grant = EnrolmentGrant(ORGANIZATION, "one")
    await store.write(lambda c: create_enrolment_token(c, grant, TOKEN, "hash", START, START + 3600))
    for at in (START, START + 3599):
        assert await store.write(lambda c, now=at: use_enrolment_token(c, TOKEN, "hash", "key", now)) == grant
    with pytest.raises(EnrolmentRefused, match="was used already") as refused:
        await store.write(lambda c: use_enrolment_token(c, TOKEN, "hash", "other", START))
    assert refused.value.code is ErrorCode.TOKEN_INVALID


async def test_an_enrolment_token_must_be_known_and_fresh(store: Store) -> None:
    """Only the holder of the secret learns that it has expired."""
    grant = EnrolmentGrant(ORGANIZATION, "one")
    await store.write(lambda c: create_enrolment_token(c, grant, TOKEN, "hash", START, START + 3600))
    for token_id, secret in (("unknown", "hash"), (TOKEN, "wrong")):
        with pytest.raises(EnrolmentRefused, match="unknown") as refused:
            await store.write(lambda c, i=token_id, s=secret: use_enrolment_token(c, i, s, "key", START + 3600))
        assert refused.value.code is ErrorCode.TOKEN_INVALID
    with pytest.raises(EnrolmentRefused, match="expired") as refused:
        await store.write(lambda c: use_enrolment_token(c, TOKEN, "hash", "key", START + 3600))
    assert refused.value.code is ErrorCode.TOKEN_EXPIRED


async def test_an_enrolment_token_needs_its_cluster(store: Store) -> None:
    """It would let an agent in that serves nothing."""
    grant = EnrolmentGrant(ORGANIZATION, "nowhere")
    with pytest.raises(NotFound, match="no cluster is named 'nowhere'"):
        await store.write(lambda c: create_enrolment_token(c, grant, TOKEN, "hash", START, START))
