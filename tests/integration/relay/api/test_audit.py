"""The audit log as the API shows it: newest first, in pages, by who, what, how and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.integration.conftest import Tenant


def test_the_log_is_paged_newest_first_without_a_gap(tenant: Tenant) -> None:
    """Following next_cursor shows each once."""
    seen: list[int] = []
    cursor = ""
    while True:
        shown = tenant.admin.ask("GET", f"{tenant.path}/audit?limit=2{cursor}")
        seen += [item["number"] for item in shown["items"]]
        if shown["next_cursor"] is None:
            break
        cursor = f"&cursor={shown['next_cursor']}"
    assert seen == list(range(len(seen), 0, -1))
    assert len(seen) == 6, "three tokens, a cluster, an application, an environment"


def test_records_are_chosen_by_who_what_how_and_when(tenant: Tenant) -> None:
    """Each of them alone, and together."""

    def verbs(**wanted: str) -> list[str]:
        found = tenant.admin.get(f"{tenant.path}/audit", params=wanted).json()
        return [item["verb"] for item in found["items"]]

    changes = ["environment.create", "application.create", "cluster.create"]
    me = tenant.admin.ask("GET", "/v1/whoami")["token_id"]
    assert verbs(actor=me) == changes
    assert verbs(actor=me, verb="cluster.create", outcome="succeeded") == ["cluster.create"]
    assert verbs(outcome="denied") == []
    now = datetime.now(UTC)
    assert verbs(since=(now - timedelta(hours=1)).isoformat()) == [*changes, *["token.create"] * 3]
    assert verbs(since=(now + timedelta(hours=1)).isoformat()) == []


def test_what_is_no_filter_is_refused(tenant: Tenant) -> None:
    """A time without a zone means another hour to each reader."""
    for query in ("since=2026-01-01T00:00:00", "since=yesterday", "outcome=lost", "cursor=x", f"cursor={'9' * 30}"):
        tenant.admin.ask("GET", f"{tenant.path}/audit?{query}", expect=422)
