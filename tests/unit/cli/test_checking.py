"""Asking for health: verdict, cause, tree, exit code."""

from collections.abc import Iterator
from typing import Any

import pytest

from fairlead_cli.alarms import TimeIsUp
from fairlead_cli.checking import CHECK_SECONDS, EnvironmentHealth, check, exit_code, show_health, watch_health
from fairlead_cli.records import StoredEvent
from fairlead_cli.refreshing import Listing
from fairlead_cli.terminal import Format, Terminal
from tests.unit.cli.scripted_relay import (
    DEPLOYMENT_ID,
    ENVIRONMENT,
    FAILURE,
    ORGANIZATION,
    STORY,
    WEB,
    ScriptedRelay,
    deployment,
    environment,
    stored,
    stream,
)

JOB = f"{ORGANIZATION}/jobs/job1"


def checked(
    records: list[dict[str, Any]], job: dict[str, Any] | None = None, drifted: int | None = None
) -> EnvironmentHealth:
    """Check shop/staging, where the job tells this story and so many objects are drifted."""
    relay = ScriptedRelay()
    current = deployment("succeeded")
    drift = None if drifted is None else {"objects": drifted, "mode": "report", "since": None}
    relay.answer(f"GET {ENVIRONMENT}", environment(current=current | {"origins": {}}, latest=current, drift=drift))
    relay.answer(f"GET {ORGANIZATION}/deployments/{DEPLOYMENT_ID}", current)
    relay.answer(f"POST {ENVIRONMENT}/health-checks", {"job_id": "job1"})
    relay.answer(f"GET {JOB}/events", stream(records))
    relay.answer(f"GET {JOB}", {"id": "job1", "kind": "health", "state": "queued"} | (job or {}))
    return check(relay.client(), "shop", "staging", 30)


def test_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    """Headline and objects."""
    found = checked(STORY)
    show_health(Terminal(), found)
    assert exit_code(found) == 0
    assert capsys.readouterr().out.splitlines() == [
        "shop/staging: Healthy",
        f"latest deployment: {DEPLOYMENT_ID} succeeded",
        "└── Deployment shop/web  Healthy",
    ]


def test_drift_is_named_if_there_is_any(capsys: pytest.CaptureFixture[str]) -> None:
    """With the command that says more; it is no matter of health."""
    show_health(Terminal(), checked(STORY, drifted=0))
    assert "drift" not in capsys.readouterr().out
    found = checked(STORY, drifted=2)
    show_health(Terminal(), found)
    assert exit_code(found) == 0
    assert capsys.readouterr().out.splitlines()[2] == "drift: 2 objects; see 'fairlead drift shop/staging'"


def test_what_is_wrong_comes_before_the_objects(capsys: pytest.CaptureFixture[str]) -> None:
    """Headline, cause, tree, with the place in the files of what is to blame."""
    healthy = stored(9, {"type": "health", "object": WEB | {"name": "api"}, "status": "Healthy"})
    found = checked([*FAILURE, healthy])
    show_health(Terminal(), found)
    assert exit_code(found) == 5
    assert capsys.readouterr().out.splitlines() == [
        "shop/staging: Degraded",
        "cause: container web: image nope:1 is not there",
        f"latest deployment: {DEPLOYMENT_ID} succeeded",
        "├── Deployment shop/web (k8s/web.yaml:7)  Degraded: container web: image nope:1 is not there",
        "└── Deployment shop/api  Healthy",
    ]


def test_an_absent_agent_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With the relay's reason, and exit code 8."""

    def late(*_arguments: object, **_options: object) -> Iterator[StoredEvent]:
        raise TimeIsUp

    monkeypatch.setattr("fairlead_cli.checking.follow", late)
    found = checked([], job={"reason": "waits for agent: offline since 2026-11-24T05:00:00Z"})
    show_health(Terminal(), found)
    assert exit_code(found) == 8
    assert capsys.readouterr().out.splitlines()[:2] == [
        "shop/staging: no answer from its agent",
        "cause: waits for agent: offline since 2026-11-24T05:00:00Z",
    ]


def test_programs_get_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    """As JSON, or the name alone."""
    found = checked(FAILURE)
    show_health(Terminal(Format.JSON), found)
    assert EnvironmentHealth.model_validate_json(capsys.readouterr().out) == found
    show_health(Terminal(Format.NAME), found)
    assert capsys.readouterr().out == "shop/staging\n"


@pytest.mark.parametrize(
    ("records", "code", "headline"),
    [
        ([stored(1, {"type": "health", "object": WEB, "status": "Progressing"}), STORY[5]], 8, "Progressing"),
        ([stored(1, {"type": "health", "object": WEB, "status": "Unknown"}), STORY[5]], 5, "Unknown"),
        ([stored(1, {"type": "health", "object": WEB, "status": "Suspended"}), STORY[5]], 0, "Suspended"),
        ([STORY[5]], 0, "nothing is deployed"),
        ([stored(1, {"type": "result", "outcome": "failed", "cause": "403"})], 5, "could not be checked"),
        ([], 8, "no answer from its agent"),
    ],
)
def test_exit_codes(
    records: list[dict[str, Any]], code: int, headline: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scripts wait for 0, and stop at 5."""
    found = checked(records)
    show_health(Terminal(), found)
    assert exit_code(found) == code
    assert capsys.readouterr().out.splitlines()[0] == f"shop/staging: {headline}"


class Eye:
    """Sees healths in order, after which somebody presses Ctrl-C."""

    def __init__(self, *healths: EnvironmentHealth) -> None:
        self._healths = list(healths)
        self.slept: list[float] = []

    def look(self) -> EnvironmentHealth:
        """Return the next."""
        if not self._healths:
            raise KeyboardInterrupt
        return self._healths.pop(0)

    def watch(self, terminal: Terminal) -> None:
        """Watch to the Ctrl-C."""
        listing = Listing(terminal, is_watched=True, clock=lambda: 0.0, sleep=self.slept.append)
        with pytest.raises(KeyboardInterrupt):
            watch_health(listing, self.look)


def test_a_pipe_gets_each_change_of_a_watched_health(capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing while nothing changes; programs get an object a line."""
    well, ill = checked(STORY), checked(FAILURE)
    eye = Eye(well, well, ill, well)
    eye.watch(Terminal())
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("shop/staging")]
    assert said == ["shop/staging: Healthy", "shop/staging: Degraded", "shop/staging: Healthy"]
    assert eye.slept == [CHECK_SECONDS] * 4
    Eye(well, well, ill).watch(Terminal(Format.JSON))
    assert [EnvironmentHealth.model_validate_json(line) for line in capsys.readouterr().out.splitlines()] == [well, ill]


def test_a_person_gets_a_watched_health_anew(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, on a clear screen, each time."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    cleared: list[None] = []
    monkeypatch.setattr("click.clear", lambda: cleared.append(None))
    well = checked(STORY)
    Eye(well, well).watch(Terminal())
    assert capsys.readouterr().out.count("shop/staging: Healthy") == len(cleared) == 2
