"""
What a benchmark finds: figures, each beside what it was compared with in the same run, and how they are printed.

A figure without its peer, its command and the machine's load says nothing later; so none is made without them. Must
not: judge. Whether a target is met is shown, never an exit code: a benchmark is no test.
"""

from __future__ import annotations

import json
import math
import os
import statistics
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, kw_only=True)
class Peer:
    """What a figure is compared with, measured in the same run."""

    name: str
    """What it is, in a few words."""
    value: float
    """In the figure's unit."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number."""

    name: str
    """What was measured."""
    value: float
    unit: str
    samples: str
    """How many, and how they were summed up, such as "median of 5"."""
    peer: Peer | None = None
    target: str = ""
    """What is wanted, in words; empty if nothing was promised."""
    is_met: bool | None = None
    """Whether the target is reached; None without one."""
    note: str = ""
    """What a reader has to know to read the number right."""

    @property
    def ratio(self) -> float | None:
        """The figure as a multiple of its peer."""
        return self.value / self.peer.value if self.peer and self.peer.value else None


@dataclass(frozen=True, kw_only=True)
class Result:
    """The figures of one benchmark, and under which conditions they arose."""

    benchmark: str
    figures: Sequence[Figure]
    started_at: datetime
    seconds: float
    """How long the benchmark took."""
    load_before: float
    """The machine's load average over one minute, at the start: work of others, since nothing ran here yet."""
    cores: int = field(default_factory=lambda: os.cpu_count() or 1)

    @property
    def command(self) -> str:
        """What makes these figures again."""
        return f"python -m tests.bench {self.benchmark}"

    @property
    def conditions(self) -> str:
        """One line for the heading of a table."""
        began = self.started_at.astimezone(UTC).isoformat(timespec="minutes").replace("+00:00", "Z")
        return f"{began}, {self.cores} cores, load before {self.load_before:.2f}, took {self.seconds:.0f} s"


def percentile(values: Sequence[float], share: float) -> float:
    """
    Return a percentile by the nearest rank: a value that was really measured.

    Args:
        values: At least one.
        share: 0 < share <= 1; 0.99 for P99.
    """
    ranked = sorted(values)
    return ranked[math.ceil(share * len(ranked)) - 1]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Say how many values a median stands for, and the smallest and largest of them."""
    return f"median of {len(values)}: {min(values):.{digits}f}–{max(values):.{digits}f}"


def median(values: Sequence[float]) -> float:
    """Return the median. At least one value."""
    return statistics.median(values)


def to_json(results: Sequence[Result]) -> str:
    """Render results for programs: a list of benchmarks, each with its command, conditions and figures."""
    rendered = []
    for result in results:
        figures = [asdict(figure) | {"ratio": figure.ratio} for figure in result.figures]
        head = {"benchmark": result.benchmark, "command": result.command, "cores": result.cores}
        head |= {"started_at": result.started_at.isoformat(), "load_before": result.load_before}
        rendered.append({**head, "seconds": round(result.seconds, 1), "figures": figures})
    return json.dumps(rendered, indent=1, ensure_ascii=False)


def to_text(result: Result) -> str:
    """Render a result for people, as a Markdown table that docs/benchmarks.md can take over as it is."""
    head = ("Figure", "Measured", "Target", "Compared with, same run", "Samples")
    rows = [_cells(figure) for figure in result.figures]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    table = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in (head, tuple("-" * width for width in widths), *rows)
    ]
    notes = [f"- {figure.name}: {figure.note}" for figure in result.figures if figure.note]
    heading = [f"### `{result.command}`", "", f"{result.conditions}.", ""]
    return "\n".join([*heading, *table, *([""] if notes else []), *notes, ""])


def _cells(figure: Figure) -> tuple[str, ...]:
    compared = "–"
    if figure.peer is not None:
        times = f" (×{figure.ratio:.2f})" if figure.ratio is not None else ""
        compared = f"{figure.peer.name}: {number(figure.peer.value)} {figure.unit}{times}"
    verdict = {None: "", True: ", met", False: ", **missed**"}[figure.is_met]
    measured = f"{number(figure.value)} {figure.unit}"
    return figure.name, measured, f"{figure.target}{verdict}" or "–", compared, figure.samples


def number(value: float) -> str:
    """Render a number with three significant digits, as none here is known better."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"
