"""Alerts and dashboard of the relay's chart: only metrics that a relay has, and a runbook for each alert."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from fairlead_agent.metrics import Metrics as AgentMetrics
from fairlead_relay.metrics import Metrics
from fairlead_relay.settings import Settings
from tests.cluster.debian import ensure_packages
from tests.product.target import CHARTS
from tests.repository.checkout import ROOT
from tests.repository.pages import anchors

FILES: Final = CHARTS / "fairlead-relay" / "files"
METRIC: Final = re.compile(r"\b(?:fairlead_relay|process)_[a-z_]+")


def relay_metrics() -> Metrics:
    """Return the counts of a relay that writes backups, something of each kind counted."""
    metrics = Metrics()
    metrics.count_backups(lambda: 0.0, 1.0)
    metrics.answered("GET", "/v1/organizations", 200, 0.1)
    metrics.refused("busy")
    return metrics


def served() -> set[str]:
    """List the names of all series of a relay."""
    families = text_string_to_metric_families(relay_metrics().render({}, 0).decode())
    return {sample.name for family in families for sample in family.samples}


def rules() -> list[dict[str, Any]]:
    """List the alerts."""
    groups = yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_alerts_and_dashboard_use_metrics_that_a_relay_has() -> None:
    """A name that is misspelt, or gone, would be an alert that never fires."""
    dashboard = json.loads((FILES / "dashboard.json").read_text())
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    used = {name for expression in [*shown, *(rule["expr"] for rule in rules())] for name in METRIC.findall(expression)}
    assert len(used) > 12
    assert used - served() == set()


def test_the_operators_page_names_what_is_counted() -> None:
    """Every name of a metric there is one of the relay's or the agent's, and none of them is left out."""
    families = {
        f"{family.name}_info" if family.type == "info" else family.name
        for text in (AgentMetrics().render(), relay_metrics().render({}, 0))
        for family in text_string_to_metric_families(text.decode())
        if not family.name.startswith("process_")
    }
    page = (ROOT / "docs" / "operate.md").read_text()
    named = set(re.findall(r"`(fairlead_(?:relay|agent)_[a-z_]+)`", page))
    assert {name.removesuffix("_total") for name in named} == families


def test_every_alert_has_its_runbook() -> None:
    """A heading of its own in operate.md, and no heading without an alert."""
    headings = anchors(ROOT / "docs" / "operate.md")
    for rule in rules():
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert (page, anchor) == ("docs/operate.md", rule["alert"].lower())
        assert anchor in headings
        assert {"summary"} < set(rule["annotations"])
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert {heading for heading in headings if heading.startswith("fairlead")} == {
        rule["alert"].lower() for rule in rules()
    }


def test_the_values_name_settings_that_the_relay_has() -> None:
    """Those in `settings` of the chart, which no other value of it sets."""
    schema = json.loads((CHARTS / "fairlead-relay" / "values.schema.json").read_text())
    assert set(schema["properties"]["settings"]["properties"]) <= set(Settings.model_fields)


CASES: Final = {
    "FairleadRelayAbsent": {},
    "FairleadJobsUnreachable": {'fairlead_relay_jobs{state="unreachable"}': "2x60"},
    "FairleadJobsWaiting": {'fairlead_relay_jobs{state="queued"}': "1x180"},
    "FairleadStoreSilent": {"fairlead_relay_build_info": "1x60"},
    "FairleadAgentsLost": {"fairlead_relay_agents_connected": "10x20 1x100"},
    "FairleadConnectionsRefused": {'fairlead_relay_connections_refused_total{reason="rate"}': "0+120x60"},
    "FairleadCommitsSlow": {
        'fairlead_relay_store_commit_seconds_bucket{le="1"}': "0+1x60",
        'fairlead_relay_store_commit_seconds_bucket{le="2.5"}': "0+60x60",
        'fairlead_relay_store_commit_seconds_bucket{le="+Inf"}': "0+60x60",
    },
    "FairleadLoopLate": {
        'fairlead_relay_loop_lag_seconds_bucket{le="0.25"}': "0+1x60",
        'fairlead_relay_loop_lag_seconds_bucket{le="0.5"}': "0+60x60",
        'fairlead_relay_loop_lag_seconds_bucket{le="+Inf"}': "0+60x60",
    },
    "FairleadApiFailing": {
        'fairlead_relay_api_requests_total{status="200"}': "0+90x60",
        'fairlead_relay_api_requests_total{status="503"}': "0+10x60",
    },
    "FairleadBackupOld": {
        "fairlead_relay_backup_newest_timestamp_seconds": "0x60",
        "fairlead_relay_backup_interval_seconds": "300x60",
    },
}
"""
What a relay shows when an alert has to fire, a sample a minute. NaN, as jobs are while the store is silent, cannot be
written here: that alert fires for no jobs at all, too.
"""


@pytest.mark.timeout(600)
def test_each_alert_fires_when_it_should_and_not_when_all_is_well(tmp_path: Path) -> None:
    """Judged by Prometheus' own tool, which also finds what is wrong in an expression."""
    ensure_packages(["prometheus"])
    well = {
        "fairlead_relay_build_info": "1x180",
        'fairlead_relay_jobs{state="queued"}': "0 1 0x178",
        'fairlead_relay_jobs{state="unreachable"}': "0x180",
        "fairlead_relay_agents_connected": "10x180",
        "fairlead_relay_backup_newest_timestamp_seconds": "0x180",
        "fairlead_relay_backup_interval_seconds": "86400x180",
    }
    tests = [(None, well), *CASES.items()]
    assert set(CASES) == {rule["alert"] for rule in rules()}
    suite = {
        "rule_files": [str(FILES / "alerts.yaml")],
        "tests": [
            {
                "interval": "1m",
                "name": alert or "well",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="{rule["alert"]}", alertstate="firing"}})',
                        "eval_time": "110m" if alert == "FairleadJobsWaiting" else "40m",
                        "exp_samples": [{"labels": "{}", "value": 1}] if rule["alert"] == alert else [],
                    }
                    for rule in rules()
                    if rule["alert"] == alert or alert is None
                ],
            }
            for alert, series in tests
        ],
    }
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite))
    for words in (["check", "rules", str(FILES / "alerts.yaml")], ["test", "rules", str(tmp_path / "suite.yaml")]):
        done = subprocess.run(["/usr/bin/promtool", *words], capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
