"""The agent's counts: what they are called, and that what is counted shows."""

from prometheus_client.parser import text_string_to_metric_families

from fairlead_agent.metrics import Metrics
from fairlead_shared.progress import Outcome


def read(metrics: Metrics) -> dict[tuple[str, str], float]:
    """Return (name, its labels as text) → value, as Prometheus reads it."""
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def test_what_is_asked_is_asked_at_each_reading() -> None:
    """Gauges show the state of the moment."""
    jobs = [0]
    metrics = Metrics(
        leading=lambda: True, jobs=lambda: jobs[0], certificate_ends=lambda: 1_800_000_000.0, kube_watches=lambda: 7
    )
    jobs[0] = 3
    found = read(metrics)
    assert found["fairlead_agent_connected", ""] == 0
    assert found["fairlead_agent_leading", ""] == 1
    assert found["fairlead_agent_jobs", ""] == 3
    assert found["fairlead_agent_kube_watches", ""] == 7
    assert found["fairlead_agent_certificate_expiry_timestamp_seconds", ""] == 1_800_000_000


def test_what_happens_is_counted() -> None:
    """Each count has its own series, with the labels that alarms ask for."""
    metrics = Metrics()
    metrics.connection_opened()
    metrics.job_ended("deploy", Outcome.FAILED)
    metrics.offer_refused("signature")
    metrics.kube_answered("PATCH", 200, 0.02)
    metrics.kube_answered("GET", 0, 40.0)
    found = read(metrics)
    assert found["fairlead_agent_connections_total", ""] == 1
    assert found["fairlead_agent_jobs_ended_total", "deploy,failed"] == 1
    assert found["fairlead_agent_offers_refused_total", "signature"] == 1
    assert found["fairlead_agent_kube_request_seconds_count", "PATCH,200"] == 1
    assert found["fairlead_agent_kube_request_seconds_sum", "GET,0"] == 40


def test_names_follow_the_conventions() -> None:
    """One prefix, base units, and no series for when a counter began."""
    names = {name for name, _ in read(Metrics())}
    assert all(name.startswith(("fairlead_agent_", "process_")) for name in names)
    assert not [name for name in names if name.endswith("_created") or "milli" in name]
