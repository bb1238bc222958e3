"""
1,000 applications of four objects in 20 namespaces as one bundle: what `apply` does, at the size of a platform.

Flux's kustomize-controller applies them too, which is built when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.apply import Size, compare_anew

if TYPE_CHECKING:
    from tests.bench.figures import Figure
    from tests.bench.workplace import Workplace


def measure(_: Workplace) -> list[Figure]:
    """Compare with 4,000 objects."""
    return compare_anew(Size(applications=1_000, namespaces=20, rounds=5))
