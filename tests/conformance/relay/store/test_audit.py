"""The audit log: a chain for each organization, in which nothing can be changed, left out or moved unseen."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
from sqlalchemy import Connection, text

from fairlead_relay.errors import AuditBroken
from fairlead_relay.store import Store
from fairlead_relay.store.audit import (
    FIRST_PREVIOUS,
    LARGEST_VALUE,
    LONGEST_TEXT,
    Actor,
    AuditFilter,
    AuditOutcome,
    AuditRecord,
    Entry,
    Trail,
    append_records,
    chain_head,
    check_chain,
    list_records,
)
from fairlead_relay.store.organizations import ensure_organization
from tests.conformance.domain import ORGANIZATION, START

ALICE = Actor("token", "t1", "alice", "admin", "192.0.2.1", "request")
CI = Actor("token", "t2", "CI", "deployer")
EXCHANGE = (
    "UPDATE audit_records SET number = number - 7 WHERE number IN (3, 4)",
    "UPDATE audit_records SET number = abs(number)",
)
TAMPERED = (
    "UPDATE audit_records SET detail = 'x' WHERE number = 3",
    "UPDATE audit_records SET outcome = 'failed' WHERE number = 3",
    "UPDATE audit_records SET at = at + 1 WHERE number = 3",
    "UPDATE audit_records SET actor_name = 'bob' WHERE number = 3",
    "UPDATE audit_records SET after = '{\"n\": 4}' WHERE number = 3",
    "UPDATE audit_records SET digest = 'x' WHERE number = 3",
    "DELETE FROM audit_records WHERE number = 3",
    "DELETE FROM audit_records WHERE number = 1",
    "UPDATE audit_records SET number = number + 100 WHERE number = 3",
    ";".join(EXCHANGE),
)


def entry(number: int, organization: str = ORGANIZATION, actor: Actor = ALICE) -> Entry:
    """Return what is to be recorded of one change."""
    return Entry(organization, actor, "cluster.create", f"cluster/c{number}", after={"n": number})


async def write(store: Store, count: int, organization: str = ORGANIZATION) -> None:
    """Record some changes, in one commit each."""
    for number in range(1, count + 1):
        await store.write(lambda c, one=number: append_records(c, [entry(one, organization)], START + one))


async def listed(store: Store, **wanted: object) -> list[AuditRecord]:
    """Return the records that fit."""
    found = AuditFilter(**wanted)  # type: ignore[arg-type]
    return await store.read(lambda c: list_records(c, ORGANIZATION, found, 100))


async def test_records_are_numbered_and_chained_for_each_organization(store: Store) -> None:
    """Several of one commit too; what was undone leaves no gap."""
    await store.write(lambda c: ensure_organization(c, "globex", START))
    assert await store.read(lambda c: chain_head(c, ORGANIZATION)) == (0, FIRST_PREVIOUS)
    await write(store, 2)

    def undone(connection: Connection) -> None:
        append_records(connection, [entry(9)], START)
        raise KeyError

    with pytest.raises(KeyError):
        await store.write(undone)
    both = [entry(3), entry(1, "globex"), entry(4)]
    await store.write(lambda c: append_records(c, both, START + 3))
    found = await listed(store)
    assert [record.number for record in found] == [4, 3, 2, 1]
    assert [record.target for record in found] == ["cluster/c4", "cluster/c3", "cluster/c2", "cluster/c1"]
    assert found[-1] == AuditRecord(
        ORGANIZATION, 1, START + 1, ALICE, "cluster.create", "cluster/c1", AuditOutcome.SUCCEEDED, "", None, {"n": 1},
        found[-1].digest,
    )  # fmt: skip
    assert found[-1].digest_after(FIRST_PREVIOUS) == found[-1].digest
    assert await store.read(lambda c: check_chain(c, ORGANIZATION)) == (4, found[0].digest)
    assert (await store.read(lambda c: check_chain(c, "globex")))[0] == 1


async def test_the_digest_does_not_change_between_versions(store: Store) -> None:
    """Whoever kept one must be able to prove the records with any later relay."""
    await store.write(lambda c: append_records(c, [Entry(ORGANIZATION, CI, "read", "x/y", before={"a": "é"})], 0.0))
    (record,) = await listed(store)
    content = (
        '{"actor":{"id":"t2","kind":"token","name":"CI","role":"deployer"},"address":"","after":null,'
        '"at":"1970-01-01T00:00:00.000Z","before":{"a":"é"},"detail":"","number":1,"organization":"acme",'
        f'"outcome":"succeeded","previous":"{"0" * 64}","request_id":"","target":"x/y","verb":"read"}}'
    )
    assert record.digest == hashlib.sha256(content.encode()).hexdigest()


@pytest.mark.parametrize("statements", TAMPERED)
async def test_what_was_tampered_with_is_found(store: Store, statements: str) -> None:
    """Changed, left out, moved or exchanged, whichever column it is."""
    await write(store, 5)

    def tamper(connection: Connection) -> None:
        for statement in statements.split(";"):
            connection.execute(text(statement))

    await store.write(tamper)
    with pytest.raises(AuditBroken) as caught:
        await store.read(lambda c: check_chain(c, ORGANIZATION))
    assert caught.value.number in {1, 3, 4}


async def test_a_chain_that_was_cut_at_its_end_has_another_head(store: Store) -> None:
    """Its records prove each other; only who knows the old head sees it."""
    await write(store, 3)
    before = await store.read(lambda c: check_chain(c, ORGANIZATION))
    await store.write(lambda c: c.execute(text("DELETE FROM audit_records WHERE number = 3")))
    assert await store.read(lambda c: check_chain(c, ORGANIZATION)) != before
    await write(store, 1)
    assert await store.read(lambda c: check_chain(c, ORGANIZATION)) != before


async def test_records_are_found_by_who_what_how_and_when(store: Store) -> None:
    """By a token's id or its name; in pages."""
    refused = dataclasses.replace(entry(2, actor=CI), outcome=AuditOutcome.DENIED, detail="forbidden")
    made = [entry(1), refused, dataclasses.replace(entry(3), verb="token.create")]
    for at, one in enumerate(made):
        await store.write(lambda c, one=one, at=at: append_records(c, [one], START + at))
    assert [one.number for one in await listed(store, actor="t1")] == [3, 1]
    assert [one.number for one in await listed(store, actor="CI")] == [2]
    assert [one.number for one in await listed(store, verb="token.create")] == [3]
    assert [one.detail for one in await listed(store, outcome=AuditOutcome.DENIED)] == ["forbidden"]
    assert [one.number for one in await listed(store, since=START + 1)] == [3, 2]
    older = await store.read(lambda c: list_records(c, ORGANIZATION, AuditFilter(), 1, before=3))
    assert [one.number for one in older] == [2]


async def test_what_clients_choose_is_bounded_and_one_line(store: Store) -> None:
    """No name forges a line of a terminal, and no database refuses one."""
    trail = Trail(ORGANIZATION, Actor("token", "t", "a\x00b\n\x1b[31m"), "token.create", "t/" + "x" * 1000, START)
    large = {"labels": {str(number): "x" * 60 for number in range(100)}}
    await store.write(lambda c: trail.note(c, before=large, after={"fits": "x" * 1000}))
    (record,) = await listed(store)
    assert record.actor.name == "a�b��[31m"
    assert len(record.target) == LONGEST_TEXT
    assert record.target.endswith("x…")
    assert record.before is not None
    assert set(record.before) == {"sha256", "bytes"}
    assert record.before["bytes"] > LARGEST_VALUE
    assert record.after == {"fits": "x" * 1000}
    await store.read(lambda c: check_chain(c, ORGANIZATION))
