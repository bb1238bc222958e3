"""
Values for the charts, and what helm makes of them: `CHART/NAME.values.yaml` beside `CHART/NAME.golden.yaml`.

The golden files show a reader what an installation consists of, and a reviewer what a change of a chart really changes.
`make charts` writes them again. Must not: ask a cluster for anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tests.product.target import render

FOLDER: Final = Path(__file__).parent
CHARTS: Final = ("fairlead-agent", "fairlead-relay")
NAMESPACE: Final = "fairlead"
_VALUES, _GOLDEN = ".values.yaml", ".golden.yaml"


@dataclass(frozen=True, slots=True)
class Case:
    """Values that somebody might give a chart."""

    chart: str
    name: str

    @property
    def values(self) -> dict[str, Any]:
        """The values."""
        read: dict[str, Any] = yaml.safe_load((FOLDER / self.chart / f"{self.name}{_VALUES}").read_text()) or {}
        return read

    @property
    def golden(self) -> Path:
        """File of what they are rendered to."""
        return FOLDER / self.chart / f"{self.name}{_GOLDEN}"

    def render(self) -> str:
        """Render the chart, under its own name and in namespace `fairlead`."""
        return render(self.chart, self.chart, NAMESPACE, self.values)

    def manifests(self) -> list[dict[str, Any]]:
        """Return the objects that the chart makes of the values, those of `helm test` included."""
        return [manifest for manifest in yaml.safe_load_all(self.render()) if manifest]


def cases() -> list[Case]:
    """List all values of all charts."""
    return [
        Case(chart, file.name.removesuffix(_VALUES))
        for chart in CHARTS
        for file in sorted((FOLDER / chart).glob(f"*{_VALUES}"))
    ]


def stray_files() -> list[Path]:
    """List golden files whose values are gone."""
    known = {case.golden for case in cases()}
    return [file for chart in CHARTS for file in (FOLDER / chart).glob(f"*{_GOLDEN}") if file not in known]
