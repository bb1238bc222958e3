"""The live tree: what is on the screen."""

import io

from rich.console import Console

from fairlead_cli.live import StoryView, draw_live
from fairlead_cli.records import StoredEvent
from fairlead_cli.story import Story
from fairlead_shared.objects import ObjectRef
from tests.unit.cli.scripted_relay import FAILURE, STORY, WEB, stored

REF = str(ObjectRef(**WEB))


def screen(story: Story, height: int = 40, notice: str = "") -> list[str]:
    """Draw a story ten seconds after its last event, on a screen without colours."""
    console = Console(file=io.StringIO(), width=120, height=height)
    view = StoryView("shop/staging on prod", story, {REF: "k8s/web.yaml:7"}, clock=lambda: 1020.0)
    view.notice = notice
    console.print(view)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def story_of(records: list[dict[str, object]]) -> Story:
    """Tell a story."""
    story = Story()
    for record in records:
        story.take(StoredEvent.model_validate(record))
    return story


def test_success_shows_steps_and_objects() -> None:
    """Steps with their durations."""
    lines = screen(story_of(STORY))
    assert lines[0] == "shop/staging on prod  succeeded"
    assert "✓ apply     2.0s" in lines[1]
    assert f"{REF}  created  Healthy" in lines[2]


def test_failure_shows_place_age_and_cause() -> None:
    """Where it is written, and for how long it has been bad."""
    text = "\n".join(screen(story_of(FAILURE), notice="(connection lost, trying again)"))
    assert f"{REF} (k8s/web.yaml:7)  changed  Degraded  17s  container web: image nope:1 is not there" in text
    assert "(connection lost, trying again)" in text.splitlines()[0]


def test_running_and_failed_steps_and_a_waiting_job() -> None:
    """The reason why it waits is in the headline."""
    lines = screen(
        story_of(
            [
                stored(1, {"type": "job", "state": "queued", "reason": "waits for agent"}),
                stored(2, {"type": "step", "step": "fetch", "status": "started", "detail": "12 kB"}),
                stored(3, {"type": "step", "step": "preflight", "status": "failed"}),
            ]
        )
    )
    assert lines[0].endswith("queued: waits for agent")
    assert "▸ fetch     18s  12 kB" in lines[1]
    assert "✗ preflight" in lines[2]


def test_more_objects_than_lines_are_summed_up() -> None:
    """A thousand healthy objects must not push the bad one off the screen."""
    records = [
        stored(number, {"type": "health", "object": WEB | {"name": f"w{number}"}, "status": "Healthy"})
        for number in range(1, 1001)
    ]
    bad = stored(2000, {"type": "health", "object": WEB | {"name": "zz"}, "status": "Missing"})
    lines = screen(story_of([*records, bad]), height=24)
    assert len(lines) < 24
    assert "zz" in lines[1]
    assert lines[-1].endswith("… and 989 more objects, 989 of them settled")


def test_what_a_container_wrote_cannot_steer_the_terminal() -> None:
    """A cause may repeat a termination message."""
    event = {"type": "health", "object": WEB, "status": "Degraded", "cause": "\x1b[2Jgone\x07"}
    assert not any("\x1b" in line or "\x07" in line for line in screen(story_of([stored(1, event)])))


def test_the_last_picture_stays() -> None:
    """The tree is still there when the command has ended."""
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with draw_live(console, StoryView("title", story_of(STORY), {})):
        pass
    assert isinstance(console.file, io.StringIO)
    assert "created" in console.file.getvalue()
