"""Organizations, clusters, agents, applications, environments, tokens and bundles."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, text

from fairlead_relay.errors import Conflict, EnrolmentRefused, NotFound
from fairlead_relay.store import Store
from fairlead_relay.store.applications import (
    Environment,
    create_application,
    create_environment,
    find_application,
    find_environment,
    list_applications,
    list_environments,
)
from fairlead_relay.store.bundles import Bundle, add_bundle, find_bundle, serves_cluster
from fairlead_relay.store.clusters import (
    EnrolmentGrant,
    create_cluster,
    create_enrolment_token,
    enrol_agent,
    find_cluster,
    list_clusters,
    renew_certificate,
    use_enrolment_token,
)
from fairlead_relay.store.organizations import ensure_organization, find_organization
from fairlead_relay.store.tokens import ApiToken, Role, create_token, find_token, touch_token
from fairlead_shared.errors import ErrorCode
from tests.conformance.domain import APPLICATION, BUNDLES, ORGANIZATION, START, deploy, identity_of

TOKEN = "token0000000000000"


async def test_an_organization_is_made_once(store: Store) -> None:
    """Asking for it again finds the first."""
    first = await store.write(lambda c: ensure_organization(c, "globex", START))
    assert await store.write(lambda c: ensure_organization(c, "globex", START + 5)) == first
    with pytest.raises(NotFound, match="no organization is named 'initech'"):
        await store.read(lambda c: find_organization(c, "initech"))


async def test_names_belong_to_their_organization(store: Store) -> None:
    """Two tenants may use the same names and never see each other's."""
    await store.write(lambda c: ensure_organization(c, "globex", START))
    await store.write(lambda c: create_cluster(c, "globex", "one", START))
    await store.write(lambda c: create_application(c, "globex", APPLICATION, START))
    assert (await store.read(lambda c: find_cluster(c, "globex", "one"))).agent is None
    assert (await store.read(lambda c: find_cluster(c, ORGANIZATION, "one"))).agent is not None
    with pytest.raises(NotFound):
        await store.read(lambda c: find_environment(c, "globex", APPLICATION, "one-staging"))


@pytest.mark.parametrize(
    ("create", "names"),
    [
        (lambda c: create_cluster(c, ORGANIZATION, "one", START), "cluster 'one'"),
        (lambda c: create_application(c, ORGANIZATION, APPLICATION, START), "application 'shop'"),
        (
            lambda c: create_environment(
                c, Environment(ORGANIZATION, APPLICATION, "one-staging", "staging", "one", "shop", START)
            ),
            "environment 'one-staging' of 'shop'",
        ),
    ],
)
async def test_a_taken_name_is_a_conflict(store: Store, create: object, names: str) -> None:
    """The error names what is there."""
    with pytest.raises(Conflict, match=f"{names} exists already"):
        await store.write(create)


async def test_what_a_new_thing_belongs_to_must_exist(store: Store) -> None:
    """The first missing parent is named."""
    environment = Environment(ORGANIZATION, APPLICATION, "new", "staging", "nowhere", "shop", START)
    with pytest.raises(NotFound, match="no cluster is named 'nowhere'"):
        await store.write(lambda c: create_environment(c, environment))
    with pytest.raises(NotFound, match="no organization is named 'globex'"):
        await store.write(lambda c: create_cluster(c, "globex", "one", START))
    with pytest.raises(NotFound, match="no application is named 'mystery'"):
        await store.read(lambda c: find_environment(c, ORGANIZATION, "mystery", "one-staging"))
    with pytest.raises(NotFound, match="no environment is named 'mystery'"):
        await store.read(lambda c: find_environment(c, ORGANIZATION, APPLICATION, "mystery"))
    with pytest.raises(NotFound, match="no application is named 'mystery'"):
        await store.read(lambda c: find_application(c, ORGANIZATION, "mystery"))


async def test_lists_go_on_after_a_name(store: Store) -> None:
    """Pages neither repeat nor skip."""

    def make(connection: Connection) -> None:
        for name in ("c", "a", "b"):
            create_cluster(connection, ORGANIZATION, name, START)
            create_application(connection, ORGANIZATION, name, START)
            create_environment(
                connection, Environment(ORGANIZATION, APPLICATION, name, "staging", "one", "shop", START)
            )

    await store.write(make)
    clusters = await store.read(lambda c: list_clusters(c, ORGANIZATION, 3, "a"))
    assert [cluster.name for cluster in clusters] == ["b", "c", "one"]
    applications = await store.read(lambda c: list_applications(c, ORGANIZATION, 2))
    assert [application.name for application in applications] == ["a", "b"]
    environments = await store.read(lambda c: list_environments(c, ORGANIZATION, APPLICATION, 2, "b"))
    assert [environment.name for environment in environments] == ["c", "one-staging"]


async def test_a_cluster_is_pending_until_its_agent_enrols(store: Store) -> None:
    """Then it is offline until the agent connects."""
    made = await store.write(lambda c: create_cluster(c, ORGANIZATION, "new", START))
    assert made.state == "pending"
    await store.write(lambda c: enrol_agent(c, identity_of("new"), "key", "0a", START + 9, START))
    cluster = await store.read(lambda c: find_cluster(c, ORGANIZATION, "new"))
    assert (cluster.state, cluster.agent and cluster.agent.sealing_key) == ("offline", "key")


async def test_an_agent_that_enrols_again_replaces_its_key(store: Store) -> None:
    """A reinstalled agent has new keys and stays the same agent."""
    await store.write(lambda c: enrol_agent(c, identity_of("one"), "new-key", "0b", START + 9, START))
    await store.write(lambda c: renew_certificate(c, identity_of("one"), "0c", START + 99))
    agent = (await store.read(lambda c: find_cluster(c, ORGANIZATION, "one"))).agent
    assert agent is not None
    assert (agent.sealing_key, agent.certificate_serial, agent.certificate_expires_at) == ("new-key", "0c", START + 99)
    with pytest.raises(NotFound, match="no agent is named 'acme/nowhere/default'"):
        await store.write(lambda c: renew_certificate(c, identity_of("nowhere"), "0c", START))


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


async def test_an_api_token_is_found_as_it_was_made(store: Store) -> None:
    """Its hash, role and expiry are what access is decided by."""
    token = ApiToken("id", ORGANIZATION, Role.DEPLOYER, "hash", START, START + 60)
    await store.write(lambda c: create_token(c, token))
    assert await store.read(lambda c: find_token(c, "id")) == token
    assert await store.read(lambda c: find_token(c, "other")) is None
    with pytest.raises(NotFound):
        await store.write(lambda c: create_token(c, ApiToken("id2", "globex", Role.ADMIN, "hash", START, None)))


async def test_the_use_of_a_token_is_noted_once_a_minute(store: Store) -> None:
    """A busy token must not turn every read into a write."""
    await store.write(lambda c: create_token(c, ApiToken("id", ORGANIZATION, Role.VIEWER, "hash", START, None)))
    for at in (START, START + 59, START + 61):
        await store.write(lambda c, now=at: touch_token(c, "id", now))
        used = await store.read(lambda c: c.scalar(text("SELECT last_used_at FROM api_tokens")))
        assert used == (START if at < START + 60 else at)


async def test_a_bundle_belongs_to_who_stored_it(store: Store) -> None:
    """Knowing a hash gives nobody another tenant's content."""
    await store.write(lambda c: ensure_organization(c, "globex", START))
    bundle = Bundle("globex", "d" * 64, 1234, START)
    assert await store.write(lambda c: add_bundle(c, bundle)) is True
    assert await store.write(lambda c: add_bundle(c, bundle)) is False
    assert await store.read(lambda c: find_bundle(c, "globex", "d" * 64)) == bundle
    assert await store.read(lambda c: find_bundle(c, ORGANIZATION, "d" * 64)) is None


async def test_a_bundle_serves_a_cluster_while_a_job_deploys_it(store: Store) -> None:
    """An agent may fetch only what it was told to deploy."""
    await store.write(deploy)
    assert await store.read(lambda c: serves_cluster(c, ORGANIZATION, "one", BUNDLES[0]))
    assert not await store.read(lambda c: serves_cluster(c, ORGANIZATION, "one", BUNDLES[1]))
    assert not await store.read(lambda c: serves_cluster(c, ORGANIZATION, "two", BUNDLES[0]))
