"""Whether one variant answers worse than another: paired on the same samples.

Source: McNemar (1947), exact binomial form; the interval of the difference is Agresti & Min's
(*Statistics in Medicine* 24, 2005): Wald after adding one half to each of the four counts, which
keeps its coverage where few samples differ.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray


class AccuracyFinding(enum.Enum):
    """NON_INFERIOR: loses less than the margin, with confidence; WORSE: loses more."""

    NON_INFERIOR = "non_inferior"
    WORSE = "worse"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class AccuracyComparison:
    """Candidate minus baseline as shares of ``n`` samples (0.01 is one percentage point).

    ``lost`` samples only the baseline got right, ``gained`` only the candidate.
    """

    n: int
    lost: int
    gained: int
    difference: float
    low: float
    high: float
    p_value: float
    finding: AccuracyFinding


def compare_accuracy(
    baseline_right: NDArray[np.bool_],
    candidate_right: NDArray[np.bool_],
    *,
    margin: float = 0.01,
    alpha: float = 0.05,
) -> AccuracyComparison:
    """Compares which of the same samples, in the same order, each side got right.

    Raises :class:`ValueError` where the two do not hold the same samples.
    """
    if baseline_right.shape != candidate_right.shape or not baseline_right.size:
        raise ValueError("both sides must have answered the same samples, at least one")
    n = int(baseline_right.size)
    lost = int(np.sum(baseline_right & ~candidate_right))
    gained = int(np.sum(candidate_right & ~baseline_right))
    low, high = _difference_interval(lost, gained, n, alpha)
    return AccuracyComparison(
        n=n,
        lost=lost,
        gained=gained,
        difference=(gained - lost) / n,
        low=low,
        high=high,
        p_value=mcnemar_exact(lost, gained),
        finding=_finding(low, high, margin),
    )


def mcnemar_exact(lost: int, gained: int) -> float:
    """Two-sided p-value: of the samples only one side got right, each falls to either by chance."""
    discordant = lost + gained
    if discordant == 0:
        return 1.0
    tail = sum(math.comb(discordant, i) for i in range(min(lost, gained) + 1))
    return min(1.0, float(2 * tail / 2**discordant))


def _difference_interval(lost: int, gained: int, n: int, alpha: float) -> tuple[float, float]:
    total = n + 2
    lost_share, gained_share = (lost + 0.5) / total, (gained + 0.5) / total
    centre = gained_share - lost_share
    variance = max(0.0, gained_share + lost_share - centre**2) / total
    reach = NormalDist().inv_cdf(1 - alpha / 2) * math.sqrt(variance)
    return max(-1.0, centre - reach), min(1.0, centre + reach)


def _finding(low: float, high: float, margin: float) -> AccuracyFinding:
    if low > -margin:
        return AccuracyFinding.NON_INFERIOR
    if high < -margin:
        return AccuracyFinding.WORSE
    return AccuracyFinding.INCONCLUSIVE
