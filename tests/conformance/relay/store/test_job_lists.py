"""Lists of jobs: newest first, in pages, as a filter wants them."""

from __future__ import annotations

import pytest

from fairlead_relay.bus import LocalBus
from fairlead_relay.store import Store
from fairlead_relay.store.job_lists import JobFilter, list_jobs
from fairlead_relay.store.jobs import enqueue_job
from fairlead_shared.jobs import JobKind, JobState
from tests.conformance.conftest import MakeStore
from tests.conformance.domain import APPLICATION, ORGANIZATION, START, deploy, health_job, seed
from tests.conformance.queue_actor import connected


async def test_jobs_are_listed_newest_first_in_pages(store: Store) -> None:
    """Pages join without a gap or a repetition."""
    made = [(await store.write(deploy)).job.id for _ in range(5)]
    first = await store.read(lambda c: list_jobs(c, ORGANIZATION, JobFilter(), 2))
    rest = await store.read(lambda c: list_jobs(c, ORGANIZATION, JobFilter(), 9, first[-1].sequence))
    assert [job.id for job in first + rest] == made[::-1]
    assert await store.read(lambda c: list_jobs(c, "globex", JobFilter(), 9)) == []


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (JobFilter(), {"running", "waiting", "check", "elsewhere"}),
        (JobFilter(states=(JobState.RUNNING,)), {"running"}),
        (
            JobFilter(states=(JobState.RUNNING, JobState.QUEUED), kind=JobKind.DEPLOY),
            {"running", "waiting", "elsewhere"},
        ),
        (JobFilter(kind=JobKind.HEALTH), {"check"}),
        (JobFilter(cluster="two"), {"elsewhere"}),
        (JobFilter(application=APPLICATION, environment="one-staging"), {"running", "waiting", "check"}),
        (JobFilter(application="other"), set()),
        (JobFilter(states=(JobState.FAILED,)), set()),
    ],
)
async def test_a_filter_asks_for_all_its_fields(make_store: MakeStore, wanted: JobFilter, found: set[str]) -> None:
    """Fields that are empty ask for nothing."""
    store = await make_store(LocalBus())
    await store.write(lambda c: seed(c, ("one", "two")))
    names = {
        (await store.write(deploy)).job.id: "running",
        (await store.write(deploy)).job.id: "waiting",
        (await store.write(lambda c: enqueue_job(c, health_job(), START))).id: "check",
        (await store.write(lambda c: deploy(c, "two-staging"))).job.id: "elsewhere",
    }
    await (await connected(store)).take()
    listed = await store.read(lambda c: list_jobs(c, ORGANIZATION, wanted, 9))
    assert {names[job.id] for job in listed} == found
