"""Which cells are worth a look: nothing else is both faster and more accurate. Pure.

Estimates alone would make a front of luck, so a lead counts only where it is clear: of p50 where
the ranges lie apart, of accuracy where the difference exceeds 1.96 of its standard errors.
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
    """FRONT: whoever is clearly better in one of the two is clearly worse in the other. DOMINATED:
    another is clearly better in one and no worse in the other. WITHIN_NOISE: neither is sure."""

    FRONT = "front"
    WITHIN_NOISE = "within_noise"
    DOMINATED = "dominated"


@dataclass(frozen=True, slots=True)
class _Point:
    p50: Estimate
    top1: float
    error: float  # one standard error of top1


def standings(rows: Sequence[Row]) -> Mapping[str, Standing]:
    """The standing of every cell that counts and has an accuracy, by its key."""
    points = {
        row.cell.cell_key: _Point(p50, quality.top1, _standard_error(quality))
        for row in rows
        if row.counts and (p50 := row.figures.p50) and (quality := row.figures.quality)
    }
    return {key: _standing(point, list(points.values())) for key, point in points.items()}


def accuracy_span(quality: Quality) -> tuple[float, float]:
    """The 95 % interval of a top-1 accuracy, by the normal approximation."""
    reach = _Z * _standard_error(quality)
    return max(0.0, quality.top1 - reach), min(1.0, quality.top1 + reach)


def _standard_error(quality: Quality) -> float:
    return math.sqrt(quality.top1 * (1 - quality.top1) / max(1, quality.n))


def _standing(point: _Point, others: Sequence[_Point]) -> Standing:
    if any(_dominates(other, point) for other in others):
        return Standing.DOMINATED
    contested = any(
        (_faster(other, point) and not _more_accurate(point, other))
        or (_more_accurate(other, point) and not _faster(point, other))
        or _beats(other, point)
        for other in others
    )
    return Standing.WITHIN_NOISE if contested else Standing.FRONT


def _beats(one: _Point, other: _Point) -> bool:
    """In estimates, which may be luck."""
    no_worse = one.p50.value <= other.p50.value and one.top1 >= other.top1
    return no_worse and (one.p50.value < other.p50.value or one.top1 > other.top1)


def _dominates(one: _Point, other: _Point) -> bool:
    return _beats(one, other) and (_faster(one, other) or _more_accurate(one, other))


def _faster(one: _Point, other: _Point) -> bool:
    return one.p50.restarts > 1 and one.p50.clear_of(other.p50)


def _more_accurate(one: _Point, other: _Point) -> bool:
    return one.top1 - other.top1 > _Z * math.hypot(one.error, other.error)
