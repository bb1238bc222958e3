"""Watching a deployment: what is said at the end, and the exit code."""

from collections.abc import Callable, Iterator

import click
import httpx
import pytest

from fairlead_cli.alarms import TimeIsUp
from fairlead_cli.errors import ExitCode, RelayUnreachable
from fairlead_cli.following import Stream, follow
from fairlead_cli.records import Deployment, Job, StoredEvent
from fairlead_cli.terminal import Format, Terminal
from fairlead_cli.watching import OFFER_SECONDS, exit_code, watch, watch_and_show, watch_job
from fairlead_shared.jobs import JobState
from tests.unit.cli.scripted_relay import (
    DEPLOYMENT_ID,
    FAILURE,
    ORGANIZATION,
    STORY,
    ScriptedRelay,
    deployment,
    problem,
    stream,
)

EVENTS = f"GET {ORGANIZATION}/deployments/{DEPLOYMENT_ID}/events"
SHOWN = f"GET {ORGANIZATION}/deployments/{DEPLOYMENT_ID}"
QUEUED = Deployment.model_validate(deployment())

Capture = pytest.CaptureFixture[str]
OnDrop = Callable[[RelayUnreachable], None]


@pytest.fixture
def relay() -> ScriptedRelay:
    """A relay with a scripted stream."""
    return ScriptedRelay()


def test_success_is_lines_and_a_sum(relay: ScriptedRelay, capsys: Capture) -> None:
    """One line per event on stdout, the verdict on stderr."""
    relay.answer(EVENTS, stream(STORY))
    relay.answer(SHOWN, deployment("succeeded", counts={"created": 1}))
    assert watch(relay.client(), Terminal(), QUEUED, None) is ExitCode.OK
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == len(STORY)
    assert "apply finished after 2.0s" in captured.out
    assert captured.err == f"deployment {DEPLOYMENT_ID} of shop/staging succeeded in 12s: 1 created\n"


def test_failure_has_the_reason_first_with_its_place(relay: ScriptedRelay, capsys: Capture) -> None:
    """Exit code 5, and the file and line to look at."""
    relay.answer(EVENTS, stream(FAILURE))
    relay.answer(SHOWN, deployment("failed", code="unhealthy", cause="Deployment web is not healthy"))
    assert watch(relay.client(), Terminal(is_quiet=True), QUEUED, None) is ExitCode.FAILED
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        f"error: deployment {DEPLOYMENT_ID} of shop/staging: failed: Deployment web is not healthy",
        "  Deployment shop/web (k8s/web.yaml:7): container web: image nope:1 is not there",
    ]


OTHER_ID = "01k9x0q6v3t1m8c5n7b2d4f6gj"


def test_a_rollback_is_watched_after_the_failure_that_it_undoes(relay: ScriptedRelay, capsys: Capture) -> None:
    """To its end, and the exit code stays that of what was asked for."""
    relay.answer(EVENTS, stream(FAILURE))
    relay.answer(SHOWN, deployment("failed", rollback_on_failure=True, rolled_back_by=OTHER_ID))
    of_rollback = f"GET {ORGANIZATION}/deployments/{OTHER_ID}"
    relay.answer(f"{of_rollback}/events", stream(STORY))
    relay.answer(of_rollback, deployment("succeeded", id=OTHER_ID, rollback_of=DEPLOYMENT_ID, counts={"changed": 1}))
    assert watch(relay.client(), Terminal(), QUEUED, None) is ExitCode.FAILED
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == len(FAILURE) + len(STORY)
    assert captured.err.splitlines()[-2:] == [
        f"rolling back: deployment {OTHER_ID}",
        f"deployment {OTHER_ID} of shop/staging succeeded in 12s: 1 changed",
    ]


def test_why_a_failure_is_not_rolled_back_is_said(relay: ScriptedRelay, capsys: Capture) -> None:
    """Whoever asked for it must not believe that it was."""
    relay.answer(EVENTS, stream(FAILURE))
    relay.answer(SHOWN, deployment("failed", rollback_on_failure=True, rollback_skipped="nothing was healthy before"))
    assert watch(relay.client(), Terminal(), QUEUED, None) is ExitCode.FAILED
    assert capsys.readouterr().err.splitlines()[-1] == "not rolled back: nothing was healthy before"


def test_a_refusal_without_events_has_the_relays_cause(relay: ScriptedRelay, capsys: Capture) -> None:
    """The agent said no before the first step."""
    relay.answer(EVENTS, stream([]))
    relay.answer(SHOWN, deployment("refused", code="not_bound", cause="namespace shop is not bound to it"))
    assert watch(relay.client(), Terminal(), QUEUED, None) is ExitCode.FAILED
    assert "refused: namespace shop is not bound to it" in capsys.readouterr().err


def test_programs_get_the_deployment_as_it_ended(relay: ScriptedRelay, capsys: Capture) -> None:
    """One JSON document on stdout, no lines."""
    relay.answer(EVENTS, stream(STORY))
    relay.answer(SHOWN, deployment("succeeded"))
    assert watch_and_show(relay.client(), Terminal(Format.NAME, is_quiet=True), QUEUED, None) is ExitCode.OK
    assert capsys.readouterr().out == f"{DEPLOYMENT_ID}\n"


def test_an_earlier_try_is_left_out(relay: ScriptedRelay) -> None:
    """Its failure is not this one's."""
    relay.answer(EVENTS, stream(STORY[3:]))
    relay.answer(SHOWN, deployment("succeeded"))
    assert watch(relay.client(), Terminal(), QUEUED, None, after=3) is ExitCode.OK
    assert relay.requests[0].headers["Last-Event-ID"] == "3"


def test_a_stream_that_drops_is_resumed(relay: ScriptedRelay, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event once, and a word about the drop."""
    monkeypatch.setattr("fairlead_cli.following.BASE_SECONDS", 0.0)
    relay.answer(EVENTS, stream(STORY[:3], is_ended=False), httpx.ConnectError("refused"), stream(STORY[3:]))
    relay.answer(SHOWN, deployment("succeeded"))
    assert watch(relay.client(), Terminal(), QUEUED, None) is ExitCode.OK
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == len(STORY)
    assert captured.err.count("trying again") == 2


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), ExitCode.PENDING, "detached: the deployment goes on."),
        (
            RelayUnreachable("https://r", "gone"),
            ExitCode.PENDING,
            "error: no answer from the relay at https://r: gone.",
        ),
        (TimeIsUp(), ExitCode.CANCELLED, "error: the time limit of 1m0s is reached: Deployment shop/web (k8s"),
    ],
)
def test_watching_may_end_before_the_deployment(
    error: BaseException,
    code: ExitCode,
    said: str,
    relay: ScriptedRelay,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It says how to go on, and what is known so far."""

    def broken(*_arguments: object, **_options: object) -> Iterator[StoredEvent]:
        yield from (StoredEvent.model_validate(record) for record in FAILURE[:3])
        raise error

    monkeypatch.setattr("fairlead_cli.watching.follow", broken)
    assert watch(relay.client(), Terminal(), QUEUED, 60) is code
    said_all = capsys.readouterr().err
    assert said in said_all
    assert f"fairlead deployments show {DEPLOYMENT_ID} --watch" in said_all
    assert f"fairlead deployments cancel {DEPLOYMENT_ID}" in said_all


class Person:
    """Somebody at a terminal, who presses Ctrl-C again or not, and answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, again: bool, answer: bool | BaseException) -> None:
        self.asked: list[str] = []
        self._again = again
        self._answer = answer
        self._watches = 0
        self._follow = follow
        monkeypatch.setattr("fairlead_cli.watching.is_person_there", lambda: True)
        monkeypatch.setattr("fairlead_cli.watching.time.sleep", self._wait)
        monkeypatch.setattr("fairlead_cli.watching.click.confirm", self._confirm)
        monkeypatch.setattr("fairlead_cli.watching.follow", self._interrupted)

    def _interrupted(self, opened: Stream, *, on_drop: OnDrop, after: int) -> Iterator[StoredEvent]:
        self._watches += 1
        for number, stored in enumerate(self._follow(opened, on_drop=on_drop, after=after)):
            if self._watches == 1 and number == 3:
                raise KeyboardInterrupt
            yield stored

    def _wait(self, seconds: float) -> None:
        assert seconds == OFFER_SECONDS
        if self._again:
            raise KeyboardInterrupt

    def _confirm(self, question: str, *, err: bool) -> bool:
        assert err, "stdout is for the answer"
        self.asked.append(question)
        if isinstance(self._answer, BaseException):
            raise self._answer
        return self._answer


def test_a_second_ctrl_c_cancels_if_that_is_meant(
    relay: ScriptedRelay, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked first; then it is watched to its end, each event once."""
    person = Person(monkeypatch, again=True, answer=True)
    relay.answer(EVENTS, stream(STORY), stream(STORY[3:]))
    relay.answer(f"POST {ORGANIZATION}/deployments/{DEPLOYMENT_ID}/cancel", deployment("cancelling"))
    relay.answer(SHOWN, deployment("cancelled"))
    assert watch(relay.client(), Terminal(), QUEUED, None) is ExitCode.CANCELLED
    assert person.asked == [f"\nCancel deployment {DEPLOYMENT_ID}?"]
    assert len(capsys.readouterr().out.splitlines()) == len(STORY)
    assert relay.requests[-2].headers["Last-Event-ID"] == "3"


def test_what_ended_meanwhile_is_reported_all_the_same(
    relay: ScriptedRelay, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelling came too late, and it succeeded."""
    Person(monkeypatch, again=True, answer=True)
    relay.answer(EVENTS, stream(STORY))
    cancel = f"POST {ORGANIZATION}/deployments/{DEPLOYMENT_ID}/cancel"
    relay.answer(cancel, problem(409, "conflict", "it has already ended"))
    relay.answer(SHOWN, deployment("succeeded"))
    assert watch(relay.client(), Terminal(), QUEUED, None) is ExitCode.OK
    assert "it has already ended" in capsys.readouterr().err


def test_otherwise_it_goes_on(relay: ScriptedRelay, monkeypatch: pytest.MonkeyPatch) -> None:
    """No second Ctrl-C, another mind, or a third one: exit code 8, nothing is cancelled."""
    relay.answer(EVENTS, stream(STORY))
    answers: tuple[bool | BaseException, ...] = (True, False, click.Abort())
    for number, answer in enumerate(answers):
        Person(monkeypatch, again=number > 0, answer=answer)
        assert watch(relay.client(), Terminal(), QUEUED, None) is ExitCode.PENDING
        monkeypatch.undo()
    assert set(relay.calls()) == {EVENTS}


def test_a_story_that_ends_too_early_is_pending(relay: ScriptedRelay, capsys: Capture) -> None:
    """The relay's word on the state counts, not the stream's end."""
    relay.answer(EVENTS, stream([]))
    relay.answer(SHOWN, deployment("running"))
    assert watch(relay.client(), Terminal(), QUEUED, None) is ExitCode.PENDING
    assert "is still running" in capsys.readouterr().err


def test_a_tree_is_drawn_on_a_terminal(relay: ScriptedRelay, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of lines."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("fairlead_cli.following.BASE_SECONDS", 0.0)
    relay.answer(EVENTS, stream(STORY[:1], is_ended=False), stream(STORY[1:]))
    relay.answer(SHOWN, deployment("succeeded"))
    assert watch(relay.client(), Terminal(may_colour=False), QUEUED, None) is ExitCode.OK
    drawn = capsys.readouterr().out
    assert "shop/staging on prod" in drawn
    assert "Deployment shop/web" in drawn


JOB = Job(id="job1", kind="destroy", state=JobState.QUEUED)
JOB_EVENTS = f"GET {ORGANIZATION}/jobs/job1/events"
JOB_SHOWN = f"GET {ORGANIZATION}/jobs/job1"


@pytest.mark.parametrize(
    ("events", "ended", "code", "said"),
    [
        (STORY, {"state": "succeeded", "counts": {"pruned": 2}}, ExitCode.OK, "deletion of a/b succeeded: 2 pruned\n"),
        (
            FAILURE,
            {"state": "failed"},
            ExitCode.FAILED,
            "error: deletion of a/b: failed: Deployment web is not healthy",
        ),
        ([], {"state": "expired", "cause": "nobody came"}, ExitCode.CANCELLED, "a/b: expired: nobody came"),
        ([], {"state": "running"}, ExitCode.PENDING, "'fairlead jobs show job1'"),
    ],
)
def test_jobs_are_watched_like_deployments(
    events: list[dict[str, object]],
    ended: dict[str, object],
    code: ExitCode,
    said: str,
    relay: ScriptedRelay,
    capsys: Capture,
) -> None:
    """The reason first, and the exit code."""
    relay.answer(JOB_EVENTS, stream(events))
    relay.answer(JOB_SHOWN, {"id": "job1", "kind": "destroy"} | ended)
    assert watch_job(relay.client(), Terminal(), JOB, "deletion of a/b") is code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RelayUnreachable("https://r", "gone")])
def test_watching_a_job_may_end_before_it(
    error: BaseException, relay: ScriptedRelay, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says how to see it and how to stop it."""

    def broken(*_arguments: object, **_options: object) -> Iterator[StoredEvent]:
        yield StoredEvent.model_validate(STORY[0])
        raise error

    monkeypatch.setattr("fairlead_cli.watching.follow", broken)
    assert watch_job(relay.client(), Terminal(), JOB, "deletion of a/b") is ExitCode.PENDING
    assert "'fairlead jobs cancel job1'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("state", "code", "expected"),
    [
        ("succeeded", None, 0),
        ("failed", "unhealthy", 5),
        ("refused", "signature", 5),
        ("failed", "deadline", 3),
        ("expired", "deadline", 3),
        ("cancelled", "cancelled", 3),
        ("superseded", None, 6),
        ("queued", None, 8),
        ("unreachable", None, 8),
    ],
)
def test_exit_codes(state: str, code: str | None, expected: int) -> None:
    """As the documentation lists them."""
    assert exit_code(Deployment.model_validate(deployment(state, code=code))) == expected
