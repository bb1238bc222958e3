"""Contradictory rows are refused by the database itself, whatever the code does."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, Update, insert, update

from fairlead_relay.errors import StoreError
from fairlead_relay.store import Store
from fairlead_relay.store.schema import agents, deployments, enrolment_tokens, job_events, jobs
from tests.conformance.domain import ORGANIZATION, START, deploy

A_JOB = update(jobs)


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        (A_JOB.values(state="sleeping"), "state"),
        (A_JOB.values(state="running"), "held_has_holder"),
        (A_JOB.values(holder="session", lease_expires_at=START), "held_has_holder"),
        (A_JOB.values(state="leased", holder="session"), "holder_has_lease"),
        (A_JOB.values(state="succeeded"), "final_is_finished"),
        (A_JOB.values(finished_at=START), "final_is_finished"),
        (A_JOB.values(environment=None, application=None), "exclusive_names_environment"),
        (A_JOB.values(stop="perhaps"), "stop"),
        (A_JOB.values(attempt=0), "numbers"),
        (A_JOB.values(cluster="nowhere"), ""),
        (update(agents).values(session_id="session"), "session_has_relay"),
        (update(deployments).values(bundle_sha256="0" * 64), ""),
    ],
)
async def test_a_contradiction_is_refused(store: Store, change: Update, constraint: str) -> None:
    """Each invariant holds also against a defect."""
    await store.write(deploy)
    with pytest.raises(StoreError, match=rf"(?i)(constraint.*{constraint}|{constraint}.*constraint)"):
        await store.write(lambda c: c.execute(change))


async def test_an_events_number_and_key_are_unique_within_its_job(store: Store) -> None:
    """That is how 0 are doubled; records of the relay have neither."""
    deployment = await store.write(deploy)

    def add(connection: Connection, seq: int | None, key: str | None) -> None:
        connection.execute(
            insert(job_events).values(
                organization=ORGANIZATION,
                job_id=deployment.job.id,
                attempt=1,
                recorded_at=START,
                event="{}",
                seq=seq,
                key=key,
            )
        )

    await store.write(lambda c: add(c, None, None))
    await store.write(lambda c: add(c, None, None))
    await store.write(lambda c: add(c, 1, "one"))
    for seq, key in ((1, "two"), (2, "one")):
        with pytest.raises(StoreError, match=r"(?i)unique"):
            await store.write(lambda c, s=seq, k=key: add(c, s, k))


async def test_a_used_token_names_the_key_that_used_it(store: Store) -> None:
    """Otherwise another key could use it too."""
    values = {
        "id": "token",
        "organization": ORGANIZATION,
        "cluster": "one",
        "secret_sha256": "hash",
        "created_at": START,
        "expires_at": START,
        "used_at": START,
    }
    with pytest.raises(StoreError, match="used_by_a_key"):
        await store.write(lambda c: c.execute(insert(enrolment_tokens).values(values)))
