"""
The live tree that `--watch` shows on a terminal: steps with durations, objects with action, health and age.

It draws a `Story` and decides nothing. More objects than the screen has lines are summed up, the bad ones shown first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text
from rich.tree import Tree

from fairlead_cli.lines import duration
from fairlead_cli.story import ObjectStory, StepStory, Story, placed
from fairlead_cli.terminal import printable
from fairlead_shared.objects import ObjectRef
from fairlead_shared.progress import Action, HealthStatus

REFRESHES_PER_SECOND = 4
"""Ages show seconds; a terminal over a slow line takes this."""

_RESERVED_LINES = 12
"""Of the screen: steps, headline, sums, and the prompt above."""

_MIN_OBJECTS = 3

_STYLES: Mapping[HealthStatus, str] = {
    HealthStatus.HEALTHY: "green",
    HealthStatus.PROGRESSING: "yellow",
    HealthStatus.SUSPENDED: "blue",
    HealthStatus.DEGRADED: "red",
    HealthStatus.MISSING: "red",
    HealthStatus.UNKNOWN: "magenta",
}


class StoryView:
    """Draws a story as it is now, each time it is rendered."""

    def __init__(
        self, title: str, story: Story, origins: Mapping[str, str], clock: Callable[[], float] = time.time
    ) -> None:
        self.title = title
        self.story = story
        self.origins = origins
        self.notice = ""
        """Shown in the headline, e.g. that the connection was lost."""
        self._clock = clock

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        now = self._clock()
        tree = Tree(self._headline())
        for step, told in self.story.steps.items():
            tree.add(_step_text(step, told, now))
        room = max(_MIN_OBJECTS, (options.height or console.height) - _RESERVED_LINES)
        objects = self.story.sorted_objects()
        for ref, object_told in objects[:room]:
            tree.add(_object_text(ref, object_told, self.origins, now))
        if hidden := objects[room:]:
            settled = sum(told.is_settled for _, told in hidden)
            tree.add(Text(f"… and {len(hidden)} more objects, {settled} of them settled", style="dim"))
        yield tree

    def _headline(self) -> Text:
        story = self.story
        text = Text(self.title, style="bold")
        if story.state:
            text.append(f"  {story.state}", style="cyan")
        if story.reason:
            text.append(f": {printable(story.reason)}", style="yellow")
        if self.notice:
            text.append(f"  {self.notice}", style="yellow")
        return text


def draw_live(console: Console, view: StoryView) -> Live:
    """Return a context in which the view is drawn again and again, and left as it is at the end."""
    return Live(view, console=console, refresh_per_second=REFRESHES_PER_SECOND, vertical_overflow="crop")


def _step_text(step: str, told: StepStory, now: float) -> Text:
    if told.finished_at is None:
        mark, style, ended = "▸", "yellow", now
    else:
        mark, style = ("✗", "red") if told.is_failed else ("✓", "green")
        ended = told.finished_at
    text = Text.assemble((f"{mark} ", style), f"{step:<10}", (duration(ended - told.started_at), "dim"))
    return text.append(f"  {printable(told.detail)}", style="dim") if told.detail else text


def _object_text(ref: ObjectRef, told: ObjectStory, origins: Mapping[str, str], now: float) -> Text:
    text = Text(printable(placed(ref, origins) if told.is_bad else str(ref)))
    if told.action:
        text.append(f"  {told.action}", style="red" if told.action is Action.FAILED else "dim")
    if told.health:
        text.append(f"  {told.health}", style=_STYLES[told.health])
    if told.since and not told.is_settled:
        text.append(f"  {duration(now - told.since)}", style="dim")
    said = told.cause or (told.detail if told.action is Action.FAILED else "")
    return text.append(f"  {printable(said)}") if said else text
