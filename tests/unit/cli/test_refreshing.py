"""Lists that go on with what changes."""

import json

import pytest

from fairlead_cli.errors import RelayUnreachable
from fairlead_cli.following import GIVE_UP_SECONDS
from fairlead_cli.records import Job
from fairlead_cli.refreshing import REFRESH_SECONDS, Listing
from fairlead_cli.terminal import Column, Format, Terminal
from fairlead_shared.jobs import JobState

Capture = pytest.CaptureFixture[str]


def job(name: str, state: JobState) -> Job:
    """Return a job."""
    return Job(id=name, kind="deploy", state=state)


ONE, TWO = job("one", JobState.QUEUED), job("two", JobState.QUEUED)
LATER = job("one", JobState.RUNNING)


class Relay:
    """Answers in order, after which somebody presses Ctrl-C; time passes as it is slept."""

    def __init__(self, *answers: list[Job] | RelayUnreachable) -> None:
        self.now = 0.0
        self._answers = list(answers)

    def fetch(self) -> list[Job]:
        if not self._answers:
            raise KeyboardInterrupt
        answer = self._answers.pop(0)
        if isinstance(answer, RelayUnreachable):
            raise answer
        return answer

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def watch(self, terminal: Terminal) -> None:
        """Watch to the Ctrl-C."""
        listing = Listing(terminal, is_watched=True, clock=lambda: self.now, sleep=self.sleep)
        with pytest.raises(KeyboardInterrupt):
            listing.show(self.fetch, columns, lambda row: row.id)


def columns() -> list[Column[Job]]:
    """Return the columns of the list."""
    return [Column("Job", lambda row: row.id), Column("State", lambda row: row.state)]


def test_once_unless_watched(capsys: Capture) -> None:
    """With titles."""
    Listing(Terminal(), is_watched=False).show(lambda: [ONE], columns, lambda row: row.id)
    assert capsys.readouterr().out == "JOB   STATE\none   queued\n"


def test_a_pipe_gets_what_changed(capsys: Capture) -> None:
    """Titles once, then each row when it is new or another."""
    Relay([ONE], [ONE], [TWO, LATER], [TWO, LATER]).watch(Terminal())
    assert capsys.readouterr().out.split() == ["JOB", "STATE", "one", "queued", "two", "queued", "one", "running"]
    Relay([ONE], [ONE, TWO]).watch(Terminal(Format.NAME))
    assert capsys.readouterr().out == "one\ntwo\n"


def test_programs_get_an_object_a_line(capsys: Capture) -> None:
    """As a stream of JSON."""
    Relay([ONE], [LATER]).watch(Terminal(Format.JSON))
    assert [json.loads(line)["state"] for line in capsys.readouterr().out.splitlines()] == ["queued", "running"]


def test_a_person_gets_the_table_anew(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole, on a clear screen."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    cleared: list[None] = []
    monkeypatch.setattr("click.clear", lambda: cleared.append(None))
    Relay([ONE], [ONE]).watch(Terminal())
    assert capsys.readouterr().out.count("JOB") == len(cleared) == 2


def test_a_relay_that_is_away_is_waited_for(capsys: Capture) -> None:
    """With a word; and given up when it stays away."""
    gone = RelayUnreachable("https://r", "refused")
    Relay([ONE], gone, [ONE]).watch(Terminal())
    assert "no answer from the relay at https://r: refused; trying again" in capsys.readouterr().err
    relay = Relay(*[gone] * 1000)
    with pytest.raises(RelayUnreachable):
        Listing(Terminal(is_quiet=True), is_watched=True, clock=lambda: relay.now, sleep=relay.sleep).show(
            relay.fetch, columns, lambda row: row.id
        )
    assert GIVE_UP_SECONDS < relay.now <= GIVE_UP_SECONDS + 2 * REFRESH_SECONDS
