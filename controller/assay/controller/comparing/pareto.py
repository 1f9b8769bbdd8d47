"""Which cells are worth a look: nothing else is both faster and more accurate. Pure.

Estimates alone would make a front of luck, so a lead counts only where it is sure. Of p50: where
the paired rounds of the two confirm it, at an error rate shared by all pairs and both axes; with
fewer rounds than that takes, where the ranges of the restarts lie apart. Of accuracy: where the
difference exceeds 1.96 of its standard errors, taken as of unrelated samples (Agresti and Caffo,
*The American Statistician* 54, 2000), which is wider than it need be. Who leads in one must also be
sure not to trail in the other by more than the margin: 1 % of p50, one point of accuracy.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assay.controller.comparing.figures import Estimate
from assay.controller.comparing.rows import Row
from assay.core.comparing.compare import Comparison, Finding, Rules
from assay.core.model import Quality

_Z = 1.96
_MARGIN = Rules().margin
_ACCURACY_MARGIN = 0.01


class Standing(enum.Enum):
    """FRONT: whoever is clearly better in one of the two is clearly worse in the other. DOMINATED:
    another is clearly better in one and clearly not worse by more than the margin in the other.
    WITHIN_NOISE: neither is sure."""

    FRONT = "front"
    WITHIN_NOISE = "within_noise"
    DOMINATED = "dominated"


@dataclass(frozen=True, slots=True)
class _Point:
    key: str
    p50: Estimate
    top1: float
    rate: float  # top1 as it is compared, and one standard error of it
    error: float
    duels: Mapping[str, Comparison]


def standings(rows: Sequence[Row]) -> Mapping[str, Standing]:
    """The standing of every cell that counts and has an accuracy, by its key."""
    points = {
        row.cell.cell_key: _Point(row.cell.cell_key, p50, quality.top1, *_rate(quality), row.duels)
        for row in rows
        if row.counts and (p50 := row.figures.p50) and (quality := row.figures.quality)
    }
    return {key: _standing(point, list(points.values())) for key, point in points.items()}


def accuracy_span(quality: Quality) -> tuple[float, float]:
    """The 95 % interval of a top-1 accuracy (Wilson's: it stays one where all or none is right)."""
    n, share = quality.n, quality.top1
    if n < 1:
        return 0.0, 1.0
    spread = _Z**2 / n
    middle = (share + spread / 2) / (1 + spread)
    reach = math.sqrt(share * (1 - share) * spread + spread**2 / 4) / (1 + spread)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def _rate(quality: Quality) -> tuple[float, float]:
    """A share and its standard error after one more right and one more wrong answer (Agresti and
    Caffo): without them whoever has few samples and all of them right would be sure of it."""
    n = quality.n + 2
    rate = (quality.top1 * quality.n + 1) / n
    return rate, math.sqrt(rate * (1 - rate) / n)


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
    if not _beats(one, other):
        return False
    return (_faster(one, other) and _not_less_accurate(one, other)) or (
        _more_accurate(one, other) and _not_slower(one, other)
    )


def _faster(one: _Point, other: _Point) -> bool:
    duel = _duel(one, other)
    if duel is None:
        return one.p50.restarts > 1 and one.p50.clear_of(other.p50)
    finding, _, high = duel
    return finding is Finding.CONFIRMED and high < 0


def _not_slower(one: _Point, other: _Point) -> bool:
    """Not by more than the margin, as far as the interval, or else the ranges, reach."""
    duel = _duel(one, other)
    if duel is None:
        sure = one.p50.restarts > 1 and other.p50.restarts > 1
        return sure and one.p50.high * (1 - _MARGIN) <= other.p50.low
    return duel[2] < math.log1p(_MARGIN)


def _more_accurate(one: _Point, other: _Point) -> bool:
    return one.rate - other.rate > _reach(one, other)


def _not_less_accurate(one: _Point, other: _Point) -> bool:
    return other.rate - one.rate + _reach(one, other) <= _ACCURACY_MARGIN


def _reach(one: _Point, other: _Point) -> float:
    return _Z * math.hypot(one.error, other.error)


def _duel(one: _Point, other: _Point) -> tuple[Finding, float, float] | None:
    """What paired rounds say of ln one's p50 - ln other's: the finding and its interval, which is
    boundless where something speaks against the comparison itself."""
    for duel, sign in ((one.duels.get(other.key), 1), (other.duels.get(one.key), -1)):
        if duel is None or duel.low is None or duel.high is None:
            continue
        if {*duel.codes} - {"wide_interval"}:
            return Finding.INCONCLUSIVE, -math.inf, math.inf
        low, high = sorted((sign * duel.low, sign * duel.high))
        return duel.finding, low, high
    return None
