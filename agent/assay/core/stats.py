"""Statistics over one run's raw samples: exact, seeded, never averaged, never guessed.

Everything here is pure; numpy is imported when a function is called, so that a program that only
shows results does not pay for it. Samples are nanoseconds, but nothing depends on that.

Sources: MLPerf LoadGen, ``early_stopping.cc`` (binomial condition at 99 % confidence); P. Sen,
"Estimates of the regression coefficient based on Kendall's tau", 1968; H. Künsch, "The jackknife
and the bootstrap for general stationary observations", 1989; Iglewicz and Hoaglin, "How to detect
and handle outliers", 1993.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[Any]

PERCENTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
CONFIDENCE = 0.99
RESAMPLES = 2_000
MIN_BLOCK = 10
STEADY_BLOCKS = 5

_SIGMA_PER_MAD = 1.4826
_SIGMA_PER_MEAN_DEVIATION = 1.2533
_OUTLIER_SIGMA = 10.0
_DEPENDENT = 0.05
_MIN_BLOCKS = 4
_MAX_BLOCKS = 1_024
_MAX_STARTS = 2_048
_GRID = 257
_GRID_SIGMA = 5.0
_LAG_SAMPLES = 1 << 16


@dataclass(frozen=True, slots=True)
class Interval:
    """A percentile interval of a bootstrapped median."""

    low: float
    high: float
    block: int

    def half_width(self, centre: float) -> float:
        """Half the interval's width relative to ``centre``."""
        return (self.high - self.low) / 2 / centre if centre else math.inf


@dataclass(frozen=True, slots=True)
class Spread:
    """How the samples scatter; ``mad`` is unscaled, ``outliers`` are counted, never removed.

    ``outlier_share`` is the part of the samples' sum by which outliers exceed the median: how much
    of the time went into what is not the model.
    """

    mean: float
    minimum: float
    maximum: float
    mad: float
    cv: float
    outliers: int
    outlier_share: float


def n_min(quantile: float, confidence: float = CONFIDENCE) -> int:
    """The fewest samples from which ``quantile`` may be stated (MLPerf early stopping).

    11, 64, 130, 662 and 6,636 for p50, p90, p95, p99 and p99.9: the smallest n for which at most
    one sample above the quantile is less likely than ``1 - confidence``.
    """
    low, high = 1, 2
    while not _may_state(quantile, high, confidence):
        low, high = high, high * 2
    while low < high:
        middle = (low + high) // 2
        if _may_state(quantile, middle, confidence):
            high = middle
        else:
            low = middle + 1
    return low


def _may_state(quantile: float, n: int, confidence: float) -> bool:
    at_most_one = quantile**n + n * (1 - quantile) * quantile ** (n - 1)
    return at_most_one < 1 - confidence


def nearest_rank(ordered: Sequence[float] | Samples, quantile: float) -> float:
    """The smallest of the ``ordered`` samples with at least that share at or below it."""
    # Rounded first, so that 0.95 x 20 is the 19th sample and not the 20th.
    rank = math.ceil(round(quantile * len(ordered), 9))
    return float(ordered[max(rank, 1) - 1])


def percentile(ordered: Sequence[float] | Samples, quantile: float) -> float | None:
    """The nearest-rank percentile, or None where there are too few samples to state it."""
    return nearest_rank(ordered, quantile) if len(ordered) >= n_min(quantile) else None


def early_stopping_estimate(
    ordered: Samples, quantile: float, confidence: float = CONFIDENCE
) -> float | None:
    """A value the true percentile lies below with ``confidence``; None with too few samples.

    LoadGen's rule: the t-th highest sample, t the most samples above the quantile that are still
    less likely than ``1 - confidence``.
    """
    discarded = _most_above(len(ordered), quantile, confidence)
    return float(ordered[len(ordered) - discarded]) if discarded else None


def _most_above(n: int, quantile: float, confidence: float) -> int:
    """The largest t ≥ 1 with P(Binomial(n, 1 - quantile) ≤ t) < 1 - confidence, else 0."""
    import numpy as np

    if n < n_min(quantile, confidence):
        return 0
    # Above the mean the condition cannot hold, so only the lower half is summed, as ratios of
    # neighbouring terms to the one at the mean: no term over- or underflows where it matters.
    top = int(n * (1 - quantile)) + 1
    k = np.arange(top)
    steps = np.log((n - k) / (k + 1) * ((1 - quantile) / quantile))
    log_terms = np.concatenate(([0.0], np.cumsum(steps))) - steps.sum()
    log_top = (
        math.lgamma(n + 1)
        - math.lgamma(top + 1)
        - math.lgamma(n - top + 1)
        + top * math.log(1 - quantile)
        + (n - top) * math.log(quantile)
    )
    cumulative = np.cumsum(np.exp(log_terms + log_top))
    return int(np.searchsorted(cumulative, 1 - confidence, side="left")) - 1


def median(values: Sequence[float] | Samples) -> float:
    """The nearest-rank median of unordered values."""
    import numpy as np

    array = np.asarray(values)
    rank = max(math.ceil(len(array) / 2), 1) - 1
    return float(np.partition(array, rank)[rank])


def spread(samples: Samples) -> Spread:
    """Mean, extremes, MAD, coefficient of variation; the outliers' count and their weight."""
    import numpy as np

    values = np.asarray(samples, dtype=np.float64)
    mean, middle, total = float(values.mean()), median(values), float(values.sum())
    far = values[_far(values, middle)]
    return Spread(
        mean=mean,
        minimum=float(values.min()),
        maximum=float(values.max()),
        mad=median(np.abs(values - middle)),
        cv=float(values.std()) / mean if mean else 0.0,
        outliers=len(far),
        outlier_share=float(np.maximum(far - middle, 0.0).sum()) / total if total else 0.0,
    )


def _far(values: NDArray[Any], middle: float) -> NDArray[Any]:
    """Which values lie beyond 10 robust sigma of the median.

    Sigma is 1.4826 MAD, or 1.2533 mean deviations where more than half of the samples are equal
    (a coarse clock); never less than one unit, the clock's resolution.
    """
    import numpy as np

    distance = np.abs(values - middle)
    sigma = _SIGMA_PER_MAD * median(distance)
    if sigma == 0:
        sigma = _SIGMA_PER_MEAN_DEVIATION * float(distance.mean())
    far: NDArray[Any] = distance > _OUTLIER_SIGMA * max(sigma, 1.0)
    return far


def dependence_lag(samples: Samples) -> int:
    """The first lag at which samples have forgotten each other: autocorrelation < 0.05.

    Of the signs around the median, since it is the median whose interval is wanted: single huge
    samples would hide a slow wave in the values' own autocorrelation. Looks at the first 65,536
    samples and at lags up to a quarter of them.
    """
    import numpy as np

    head = np.asarray(samples[:_LAG_SAMPLES], dtype=np.float64)
    signs = np.sign(head - median(head))
    signs -= signs.mean()
    variance = float(signs @ signs)
    if variance == 0 or len(signs) < 4:
        return 1
    size = 1 << (2 * len(signs) - 1).bit_length()
    spectrum = np.fft.rfft(signs, size)
    correlation = np.fft.irfft(spectrum * spectrum.conj(), size)[: len(signs) // 4 + 1] / variance
    forgotten = np.flatnonzero(correlation[1:] < _DEPENDENT)
    return int(forgotten[0]) + 1 if len(forgotten) else max(len(signs) // 4, 1)


def median_interval(
    samples: Samples, seed: int, resamples: int = RESAMPLES, level: float = 0.95
) -> Interval:
    """A circular block bootstrap interval of the median of samples in the order they were taken.

    Blocks are ``max(10, dependence_lag)`` long; longer where there would be more than 1,024 of
    them, which stays valid and bounds the cost (a million samples, none left out, take about 0.15
    s); shorter where there would be fewer than four. Equal input and seed give an equal interval.
    """
    import numpy as np

    values = np.asarray(samples)
    n = len(values)
    wanted = max(MIN_BLOCK, dependence_lag(values), -(-n // _MAX_BLOCKS))
    block = max(min(wanted, n // _MIN_BLOCKS), 1)
    starts = np.unique(np.linspace(0, n, min(n, _MAX_STARTS), endpoint=False).astype(np.int64))
    grid = _median_grid(values, block)
    below = _counts_up_to(grid, values, starts, block)
    draws = max(round(n / block), 1)
    chosen = np.random.default_rng(seed).integers(0, len(starts), (resamples, draws))
    rows = np.arange(resamples)[:, None] * len(starts)
    weights = np.bincount((rows + chosen).ravel(), minlength=resamples * len(starts))
    # Counts stay far below 2**24, so float32 holds them exactly and lets BLAS do the sums.
    totals = weights.reshape(resamples, -1).astype(np.float32) @ below.astype(np.float32)
    reached = totals >= math.ceil(draws * block / 2)
    medians = np.sort(grid[np.argmax(reached, axis=1)])
    tail = (1 - level) / 2
    return Interval(nearest_rank(medians, tail), nearest_rank(medians, 1 - tail), block)


def _median_grid(values: NDArray[Any], block: int) -> NDArray[Any]:
    """Order statistics around the median, out to where no resample's median can fall, and the
    largest sample as a backstop."""
    import numpy as np

    n = len(values)
    ordered = np.sort(values)
    whole = values[: n - n % block].reshape(-1, block)
    shares = (whole <= median(values)).mean(axis=1)
    error = float(shares.std()) / math.sqrt(max(len(shares), 1))
    reach = max(_GRID_SIGMA * error, 0.5 / math.sqrt(n))
    levels = np.linspace(max(0.5 - reach, 0.0), min(0.5 + reach, 1.0), _GRID)
    ranks = np.clip(np.ceil(levels * n).astype(np.int64) - 1, 0, n - 1)
    return np.unique(np.append(ordered[ranks], ordered[-1]))


def _counts_up_to(
    grid: NDArray[Any], values: NDArray[Any], starts: NDArray[Any], block: int
) -> NDArray[np.int64]:
    """For the circular block at each start, how many of its samples lie at or below each grid
    value: shape (starts, grid)."""
    import numpy as np

    cell = np.searchsorted(grid, values)
    taken = cell[(starts[:, None] + np.arange(block)) % len(values)]
    flat = np.arange(len(starts))[:, None] * len(grid) + np.minimum(taken, len(grid) - 1)
    counts = np.bincount(flat.ravel(), minlength=len(starts) * len(grid))
    summed: NDArray[np.int64] = np.cumsum(counts.reshape(len(starts), -1), axis=1)
    return summed


def theil_sen_slope(values: Sequence[float]) -> float:
    """The median of the slopes between all pairs, one step apart being one."""
    slopes = [
        (values[j] - values[i]) / (j - i)
        for i in range(len(values))
        for j in range(i + 1, len(values))
    ]
    if not slopes:
        return 0.0
    slopes.sort()
    middle = len(slopes) // 2
    return slopes[middle] if len(slopes) % 2 else (slopes[middle - 1] + slopes[middle]) / 2


def is_steady(block_medians: Sequence[float]) -> bool:
    """Whether the last five block medians neither trend nor wander: Theil–Sen slope x 5 within
    ± 1 % of their median, and a range of at most 3 %."""
    last = list(block_medians[-STEADY_BLOCKS:])
    if len(last) < STEADY_BLOCKS:
        return False
    centre = sorted(last)[STEADY_BLOCKS // 2]
    trend = abs(theil_sen_slope(last)) * STEADY_BLOCKS
    return trend <= 0.01 * centre and max(last) - min(last) <= 0.03 * centre


def drift(samples: Samples) -> float:
    """The last quarter's median against the first quarter's, minus one; 0 below 8 samples."""
    quarter = len(samples) // 4
    if quarter < 2:
        return 0.0
    first, last = median(samples[:quarter]), median(samples[-quarter:])
    return last / first - 1 if first else 0.0
