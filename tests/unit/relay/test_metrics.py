"""Counts: names and units by Prometheus' conventions, and labels that no client can make more of."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from fairlead_relay import __version__
from fairlead_relay.metrics import Metrics
from fairlead_relay.store.outbox import EventRecord, Work
from fairlead_shared.jobs import FINAL_STATES, JobState

UNITS = ("_seconds", "_bytes", "_total", "_writes", "_info", "_connected", "_jobs", "_streams", "_drifted")


def families(metrics: Metrics, jobs: dict[JobState, int] | None = None) -> dict[str, Metric]:
    """Read what is rendered, by name."""
    text = metrics.render({} if jobs is None else jobs, 2).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def values(family: Metric, suffix: str = "") -> dict[tuple[str, ...], float]:
    """Return the samples of one name, by the values of their labels."""
    return {tuple(sample.labels.values()): sample.value for sample in family.samples if sample.name.endswith(suffix)}


def own(found: dict[str, Metric]) -> Iterator[Metric]:
    """Yield the relay's own, without those of the process."""
    return (family for name, family in found.items() if name.startswith("fairlead_relay_"))


def test_names_say_their_unit_and_each_has_a_sentence() -> None:
    """Whoever writes an alarm need not read the code."""
    found = list(own(families(Metrics())))
    assert len(found) > 10
    for family in found:
        shown = family.name + ("_total" if family.type == "counter" else "")
        assert shown.endswith(UNITS), shown
        assert family.documentation.endswith("."), family.name
        assert re.fullmatch(r"[a-z_]+", family.name)


def test_a_new_relay_shows_every_state_as_zero() -> None:
    """An alarm on a series that appears only with the first failure would miss it."""
    found = families(Metrics(), {JobState.QUEUED: 3})
    jobs = values(found["fairlead_relay_jobs"])
    assert jobs == {
        (str(state),): 3.0 if state is JobState.QUEUED else 0.0 for state in JobState if state not in FINAL_STATES
    }
    ended = values(found["fairlead_relay_jobs_ended"])
    assert ended == {(str(state),): 0.0 for state in FINAL_STATES}


def test_the_build_is_named() -> None:
    """So that a graph can tell an upgrade."""
    (sample,) = families(Metrics())["fairlead_relay_build_info"].samples
    assert sample.labels["version"] == __version__


def test_a_store_that_does_not_answer_is_not_an_empty_queue() -> None:
    """NaN, and no zero that somebody relies on."""
    text = Metrics().render(None, None).decode()
    assert 'fairlead_relay_jobs{state="queued"} NaN' in text
    assert "fairlead_relay_environments_drifted NaN" in text


def test_only_the_end_of_a_job_is_counted_as_one() -> None:
    """Other records and wake-ups are none, and the words of a reason are no state."""
    metrics = Metrics()
    event = '{"type":"job","state":"failed","attempt":1,"reason":"\\"state\\":\\"succeeded\\"","at":1}'
    record = EventRecord(1, "acme", "d1", "j1", 1, 0.0, event, final=True)
    metrics.noted([record, Work("acme", "harbour"), EventRecord(2, "acme", None, "j2", 1, 0.0, "{}", final=False)])
    ended = values(families(metrics)["fairlead_relay_jobs_ended"])
    assert {state: number for state, number in ended.items() if number} == {("failed",): 1.0}


def test_a_method_of_a_clients_own_makes_no_series_of_its_own() -> None:
    """Else anybody could fill the relay's memory."""
    metrics = Metrics()
    for number in range(50):
        metrics.answered(f"M{number}", "none", 405, 0.001)
    metrics.answered("GET", "/v1/version", 200, 0.001)
    requests = values(families(metrics)["fairlead_relay_api_requests"])
    assert requests == {("other", "none", "405"): 50.0, ("GET", "/v1/version", "200"): 1.0}


def test_what_is_observed_is_in_its_histogram() -> None:
    """In seconds and writes; gauges follow what they are told."""
    metrics = Metrics(lambda: 7)
    metrics.committed(12, 0.004)
    metrics.dispatched(0.02)
    metrics.refused("tls")
    metrics.stream_begun()
    metrics.stream_begun()
    metrics.stream_ended()
    found = families(metrics)
    assert values(found["fairlead_relay_store_commit_writes"], "_sum") == {(): 12.0}
    assert values(found["fairlead_relay_store_commit_seconds"], "_sum") == {(): pytest.approx(0.004)}
    assert values(found["fairlead_relay_dispatch_seconds"], "_count") == {(): 1.0}
    assert values(found["fairlead_relay_connections_refused"]) == {("tls",): 1.0}
    assert values(found["fairlead_relay_api_streams"]) == {(): 1.0}
    assert values(found["fairlead_relay_agents_connected"]) == {(): 7.0}


async def test_a_loop_that_is_held_up_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """By as much as it was held up."""
    metrics = Metrics()
    times = iter([0.0, 0.3, 0.3, 0.4])
    waits = iter([None, None])

    async def sleep(_seconds: float) -> None:
        if next(waits, "end") == "end":
            raise asyncio.CancelledError

    monkeypatch.setattr("fairlead_relay.metrics.time.monotonic", lambda: next(times, 1.0))
    monkeypatch.setattr("fairlead_relay.metrics.asyncio.sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await metrics.watch_loop()
    lag = families(metrics)["fairlead_relay_loop_lag_seconds"]
    assert values(lag, "_sum") == {(): pytest.approx(0.2)}
