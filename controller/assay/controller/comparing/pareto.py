"""Which cells are worth a look: nothing else is both faster and more accurate. Pure.

Estimates alone would make a front of luck. So a cell leaves it only where another one is clearly
better in one of the two, their intervals apart, and no worse in the other; a cell that is beaten in
estimates only stays *within the noise* of the front.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assay.controller.comparing.figures import Estimate
from assay.controller.comparing.rows import Row
from assay.core.model import Quality

_Z = 1.96


class Standing(enum.Enum):
    """Where a cell lies: FRONT by its estimates, WITHIN_NOISE of it, or clearly DOMINATED."""

    FRONT = "front"
    WITHIN_NOISE = "within_noise"
    DOMINATED = "dominated"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A cell's p50 and accuracy, each with its interval."""

    p50: Estimate
    top1: float
    top1_low: float
    top1_high: float


def standings(rows: Sequence[Row]) -> Mapping[str, Standing]:
    """The standing of every cell that counts and has an accuracy, by its key."""
    points = {
        row.cell.cell_key: candidate(row.figures.p50, row.figures.quality)
        for row in rows
        if row.counts and row.figures.p50 is not None and row.figures.quality is not None
    }
    return {key: _standing(point, list(points.values())) for key, point in points.items()}


def candidate(p50: Estimate, quality: Quality) -> Candidate:
    """A cell as a point with its noise."""
    return Candidate(p50, quality.top1, *accuracy_span(quality))


def accuracy_span(quality: Quality) -> tuple[float, float]:
    """The 95 % interval of a top-1 accuracy, by the normal approximation."""
    reach = _Z * math.sqrt(quality.top1 * (1 - quality.top1) / max(1, quality.n))
    return max(0.0, quality.top1 - reach), min(1.0, quality.top1 + reach)


def _standing(point: Candidate, others: Sequence[Candidate]) -> Standing:
    if any(_clearly_beats(other, point) for other in others):
        return Standing.DOMINATED
    return Standing.WITHIN_NOISE if any(_beats(o, point) for o in others) else Standing.FRONT


def _beats(one: Candidate, other: Candidate) -> bool:
    no_worse = one.p50.value <= other.p50.value and one.top1 >= other.top1
    return no_worse and (one.p50.value < other.p50.value or one.top1 > other.top1)


def _clearly_beats(one: Candidate, other: Candidate) -> bool:
    faster = one.p50.restarts > 1 and one.p50.clear_of(other.p50)
    return _beats(one, other) and (faster or one.top1_low > other.top1_high)
