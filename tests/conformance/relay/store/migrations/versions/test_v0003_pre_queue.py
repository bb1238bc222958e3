"""The relay before this revision goes on working after it: it adds indexes, which can be taken away again."""

from __future__ import annotations

from sqlalchemy import Connection, inspect

from fairlead_relay.store import Store
from fairlead_relay.store.jobs import enqueue_job
from fairlead_relay.store.migrate import migrate
from tests.conformance.domain import START, deploy, health_job
from tests.conformance.downgrading import downgrade

ADDED = {"ix_jobs_succeeded_environment", "ix_jobs_organization_sequence"}


def _indexes(connection: Connection) -> set[str | None]:
    return {index["name"] for index in inspect(connection).get_indexes("jobs")}


async def test_its_indexes_come_and_go(store: Store) -> None:
    """With jobs stored before, between and after."""
    made = await store.write(_indexes)

    await store.write(deploy)
    await downgrade(store, "v0002")
    assert made - await store.write(_indexes) == ADDED
    await store.write(lambda c: enqueue_job(c, health_job(), START))
    await store.write(migrate)
    await store.write(deploy)
    assert await store.write(_indexes) == made
