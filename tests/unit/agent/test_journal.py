"""Journal: numbers, keys, recovery from a kill, and what happens to numbers when either side lost something."""

from pathlib import Path

import pytest

from fairlead_agent import journal as module
from fairlead_agent.errors import JournalFull
from fairlead_agent.journal import Journal, Spool
from fairlead_shared.progress import Outcome, ResultEvent, Step, StepEvent


def step(number: int, detail: str = "") -> StepEvent:
    """Return an event with a key of its own."""
    return StepEvent(key=f"step/{number}", at=0, step=Step.APPLY, status="started", detail=detail)


def keys(journal: Journal, first: int, last: int) -> list[str]:
    """Return the keys of the events with these numbers."""
    found = [journal.event(number) for number in range(first, last + 1)]
    return [event.key if event else "-" for event in found]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the journal is."""
    return tmp_path / "job.events"


def test_events_are_numbered_after_the_base(path: Path) -> None:
    """The first event follows the base; unknown numbers give nothing."""
    journal = Journal(path, 10)
    assert journal.append(step(1))
    assert journal.append(ResultEvent(key="result", at=0, outcome=Outcome.SUCCEEDED))
    assert journal.last_seq == 12
    assert keys(journal, 10, 13) == ["-", "step/1", "result", "-"]


def test_what_was_read_is_kept_by_nobody_else(path: Path) -> None:
    """Pydantic would remember 16,384 strings that it read, whoever needs them."""
    journal = Journal(path, 0)
    journal.append(step(1))
    one, other = journal.event(1), journal.event(1)
    assert one == other
    assert one is not None
    assert other is not None
    assert one.key is not other.key


def test_known_key_is_dropped(path: Path) -> None:
    """The second event of a key is not recorded, also after the file is opened again."""
    journal = Journal(path, 0)
    journal.append(step(1))
    assert not journal.append(step(1, "again"))
    journal.close()
    again = Journal(path, None)
    assert not again.append(step(1))
    assert again.last_seq == 1


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_line_cut_off_by_a_kill_is_dropped(path: Path, cut: int) -> None:
    """Whole lines survive, a torn one does not, and its number is given again."""
    journal = Journal(path, 0)
    journal.append(step(1))
    journal.append(step(2))
    journal.close()
    content = path.read_bytes()
    path.write_bytes(content[:-cut])
    again = Journal(path, None)
    assert again.last_seq == 1
    assert again.append(step(2))
    assert keys(again, 1, 2) == ["step/1", "step/2"]


def test_file_without_a_whole_header_starts_anew(path: Path) -> None:
    """A kill right after the file was made leaves nothing to recover."""
    path.write_bytes(b'{"ba')
    journal = Journal(path, None)
    assert journal.last_seq == 0
    journal.append(step(1))
    journal.settle(4)
    assert keys(journal, 5, 5) == ["step/1"]


def test_journal_without_base_waits_for_the_relay(path: Path) -> None:
    """Events recorded while nobody knows the numbers follow what the relay has, also after another restart."""
    journal = Journal(path, None)
    journal.append(step(1))
    assert (journal.last_seq, journal.event(1)) == (0, None)
    journal.close()
    again = Journal(path, None)
    again.append(step(2))
    again.settle(50)
    assert again.last_seq == 52
    assert keys(again, 51, 52) == ["step/1", "step/2"]


def test_relay_that_knows_more_moves_the_numbers(path: Path) -> None:
    """A tail that was stored by the relay and lost here is not sent again under other numbers."""
    journal = Journal(path, 0)
    journal.append(step(1))
    journal.settle(3)
    journal.append(step(4))
    assert keys(journal, 1, 4) == ["-", "-", "-", "step/4"]


def test_restored_relay_gets_what_is_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relay restored from a backup lacks events that are kept no more: numbers go on without a gap."""
    monkeypatch.setattr(module, "_COMPACT_BYTES", 10)
    journal = Journal(path, 0)
    for number in range(1, 6):
        journal.append(step(number))
    journal.acknowledge(3)
    assert keys(journal, 3, 5) == ["-", "step/4", "step/5"]
    journal.settle(1)
    assert keys(journal, 2, 3) == ["step/4", "step/5"]


def test_acknowledged_events_make_room(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full journal drops what is acknowledged, and refuses when nothing is."""
    monkeypatch.setattr(module, "MAX_JOB_BYTES", 1000)
    journal = Journal(path, 0)
    for number in range(1, 9):
        journal.append(step(number))
    with pytest.raises(JournalFull):
        journal.append(step(9, "x" * 1000))
    last = journal.last_seq
    journal.acknowledge(last - 1)
    assert journal.append(step(100, "x" * 300))
    assert keys(journal, last - 1, last + 1) == ["-", f"step/{last}", "step/100"]
    journal.close()
    assert keys(Journal(path, None), last, last + 1) == [f"step/{last}", "step/100"]


def test_acknowledgement_beyond_the_end_is_capped(path: Path) -> None:
    """A relay cannot acknowledge what was never recorded."""
    journal = Journal(path, 0)
    journal.append(step(1))
    journal.acknowledge(99)
    assert journal.acknowledged_seq == 1


def test_spool_keeps_only_known_jobs(tmp_path: Path) -> None:
    """Journals of jobs without a checkpoint, and half-written files, are deleted at the start."""
    spool = Spool(tmp_path / "events")
    for job in ("one", "two"):
        spool.open(job, 0).close()
    (tmp_path / "events" / "one.fresh").write_text("half")
    spool.discard_others({"one"})
    assert [path.name for path in (tmp_path / "events").iterdir()] == ["one.events"]
    journal = spool.open("one", 0)
    journal.remove()
    journal.remove()
    assert not list((tmp_path / "events").iterdir())
