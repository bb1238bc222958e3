"""Who may connect, renew and rejoin, as the store has it."""

from __future__ import annotations

import pytest

from fairlead_relay.errors import AgentRefused, Conflict, NotFound
from fairlead_relay.store import Store
from fairlead_relay.store.access import (
    Presented,
    approve,
    check_agent,
    check_enabled,
    check_rejoin,
    is_approved,
    needs_approval,
    newest_made,
    note_presented,
)
from fairlead_relay.store.clusters import create_cluster, enrol_agent, find_cluster, renew_certificate
from fairlead_relay.store.revocation import revoke_agent
from fairlead_shared.identity import identity_fingerprint
from tests.conformance.domain import ORGANIZATION, START, enrolled, identity_of

ONE = identity_of("one")
KEY, OTHER_KEY = "a" * 64, "b" * 64


def presented(made_at: float, serial: str = "0c") -> Presented:
    """Return a certificate of a day."""
    return Presented(serial, "issuer", made_at, made_at + 86_400)


async def test_a_certificate_of_before_the_last_enrolment_counts_no_more(store: Store) -> None:
    """Another agent serves the cluster now; the same key that only asks again changes nothing."""
    await store.read(lambda c: check_agent(c, ONE, START))
    await store.write(lambda c: enrol_agent(c, ONE, enrolled(made_at=START + 5), START + 5))
    await store.read(lambda c: check_agent(c, ONE, START))
    await store.write(lambda c: enrol_agent(c, ONE, enrolled(key_sha256=OTHER_KEY, made_at=START + 9), START + 9))
    with pytest.raises(AgentRefused, match="another agent enrolled"):
        await store.read(lambda c: check_agent(c, ONE, START + 8))
    await store.read(lambda c: check_agent(c, ONE, START + 9))
    with pytest.raises(AgentRefused, match="knows no such agent"):
        await store.read(lambda c: check_agent(c, identity_of("nowhere"), START))
    with pytest.raises(NotFound):
        await store.read(lambda c: check_enabled(c, ORGANIZATION, "nowhere"))


async def test_a_revoked_agent_that_enrols_with_the_same_key_loses_its_old_certificates(store: Store) -> None:
    """The key may be kept by a reinstall; what was revoked stays revoked."""
    await store.write(lambda c: revoke_agent(c, ORGANIZATION, "one", START + 1))
    await store.write(lambda c: enrol_agent(c, ONE, enrolled(made_at=START + 5), START + 5))
    with pytest.raises(AgentRefused, match="another agent enrolled"):
        await store.read(lambda c: check_agent(c, ONE, START))


async def test_only_the_newest_certificate_in_use_is_good_for_a_rejoin(store: Store) -> None:
    """One that was issued and never seen does not lock its predecessor out: its answer may have been lost."""
    await store.write(lambda c: note_presented(c, ONE, presented(START + 10)))
    await store.write(lambda c: note_presented(c, ONE, presented(START + 5, "0b")))
    agent = (await store.read(lambda c: find_cluster(c, ORGANIZATION, "one"))).agent
    assert agent is not None
    assert (agent.certificate_serial, agent.certificate_issuer) == ("0c", "issuer")
    await store.read(lambda c: check_rejoin(c, ONE, START + 10))
    await store.read(lambda c: check_agent(c, ONE, START + 5))
    with pytest.raises(AgentRefused, match="replaced by a newer one"):
        await store.read(lambda c: check_rejoin(c, ONE, START + 5))


async def test_an_approval_is_of_one_key_and_for_one_purpose(store: Store) -> None:
    """The newest wish takes the place of any other; once the agent was seen, it is spent."""
    await store.write(lambda c: create_cluster(c, ORGANIZATION, "vault", START, require_approval=True))
    vault = identity_of("vault")
    assert await store.read(lambda c: needs_approval(c, ORGANIZATION, "vault"))
    assert not await store.read(lambda c: needs_approval(c, ORGANIZATION, "one"))
    with pytest.raises(Conflict, match="no agent"):
        await store.write(lambda c: approve(c, ORGANIZATION, "vault", "SHA256:x", START))
    assert not await store.write(lambda c: is_approved(c, vault, "enrol", KEY, START))
    assert not await store.write(lambda c: is_approved(c, vault, "enrol", OTHER_KEY, START + 1))
    with pytest.raises(Conflict, match="not SHA256"):
        await store.write(lambda c: approve(c, ORGANIZATION, "vault", identity_fingerprint(KEY), START))
    await store.write(lambda c: approve(c, ORGANIZATION, "vault", identity_fingerprint(OTHER_KEY), START))
    assert await store.write(lambda c: is_approved(c, vault, "enrol", OTHER_KEY, START + 2))
    await store.write(lambda c: enrol_agent(c, vault, enrolled(key_sha256=OTHER_KEY), START + 2))
    await store.write(lambda c: note_presented(c, vault, presented(START + 2)))
    assert (await store.read(lambda c: find_cluster(c, ORGANIZATION, "vault"))).approval is None
    assert not await store.write(lambda c: is_approved(c, vault, "rejoin", OTHER_KEY, START + 3))


async def test_the_next_certificate_is_newer_than_every_one_before(store: Store) -> None:
    """Also than one that was issued and never seen: a clock that goes back must not bring it to life again."""
    assert await store.read(lambda c: newest_made(c, identity_of("nowhere"))) == 0
    assert await store.read(lambda c: newest_made(c, ONE)) == START
    await store.write(lambda c: note_presented(c, ONE, presented(START + 10)))
    assert await store.read(lambda c: newest_made(c, ONE)) == START + 10
    await store.write(lambda c: renew_certificate(c, ONE, "0d", START + 20, START + 99))
    assert await store.read(lambda c: newest_made(c, ONE)) == START + 20
    await store.write(lambda c: enrol_agent(c, ONE, enrolled(key_sha256=OTHER_KEY, made_at=START + 21), START))
    with pytest.raises(AgentRefused, match="another agent enrolled"):
        await store.read(lambda c: check_agent(c, ONE, START + 20))
    assert await store.read(lambda c: newest_made(c, ONE)) == START + 21
