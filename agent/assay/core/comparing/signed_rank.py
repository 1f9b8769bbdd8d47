"""Exact Wilcoxon signed-rank inference on paired differences.

Source: Hollander & Wolfe, *Nonparametric Statistical Methods*, ch. 3 (one-sample location): the
Hodges–Lehmann estimate is the median of the M = n(n+1)/2 Walsh averages, and inverting the exact
test gives an interval between two of their order statistics. Nothing is assumed about the noise
but its symmetry.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def walsh_averages(differences: Sequence[float]) -> Floats:
    """All means of two differences (each with itself too), ascending."""
    values = np.asarray(differences, dtype=np.float64)
    rows, columns = _pairs(len(values))
    return np.sort((values[rows] + values[columns]) / 2)


def hodges_lehmann(differences: Sequence[float]) -> float:
    """The median of the Walsh averages: a centre that outliers hardly move."""
    if not len(differences):
        raise ValueError("an estimate needs at least one difference")
    averages = walsh_averages(differences)
    return float(averages[(len(averages) - 1) // 2] + averages[len(averages) // 2]) / 2


_pairs = lru_cache(maxsize=64)(np.triu_indices)


@lru_cache(maxsize=64)
def cumulative(n: int) -> tuple[float, ...]:
    """P(W ≤ w) for w = 0 … n(n+1)/2, W the rank sum of ``n`` symmetric differences above zero.

    By dynamic programming over the ranks: each lies above zero with probability one half.
    """
    mass = np.zeros(n * (n + 1) // 2 + 1)
    mass[0] = 1.0
    for rank in range(1, n + 1):
        moved = np.zeros_like(mass)
        moved[rank:] = mass[:-rank]
        mass = (mass + moved) / 2
    return tuple(float(p) for p in np.cumsum(mass))


def critical_k(n: int, alpha: float) -> int | None:
    """The largest k with P(W ≤ k) ≤ α/2; None where ``n`` is too small for this α."""
    k = int(np.searchsorted(np.asarray(cumulative(n)), alpha / 2, side="right")) - 1
    return k if k >= 0 else None


def interval(differences: Sequence[float], alpha: float) -> tuple[float, float] | None:
    """The exact 1-α interval: Walsh averages number k+1 and M-k, counted from one.

    None where so few differences cannot give that confidence (n < 1 + log2(1/α)).
    """
    k = critical_k(len(differences), alpha)
    if k is None:
        return None
    averages = walsh_averages(differences)
    return float(averages[k]), float(averages[len(averages) - k - 1])
