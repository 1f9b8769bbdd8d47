"""Statistics say no more than the samples do."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.core import stats

SAMPLES = st.lists(st.integers(1, 10**9), min_size=1, max_size=300).map(np.array)


@pytest.mark.parametrize(
    ("quantile", "fewest"), [(0.5, 11), (0.9, 64), (0.95, 130), (0.99, 662), (0.999, 6636)]
)
def test_the_fewest_samples_are_those_of_mlperf(quantile: float, fewest: int) -> None:
    assert stats.n_min(quantile) == fewest


def test_a_percentile_with_too_few_samples_is_not_guessed() -> None:
    ordered = np.arange(1, 664)
    assert stats.percentile(ordered[:661], 0.99) is None
    assert stats.percentile(ordered[:662], 0.99) == 656
    assert stats.early_stopping_estimate(ordered[:661], 0.99) is None
    assert stats.early_stopping_estimate(ordered[:662], 0.99) == 662


@pytest.mark.parametrize(("quantile", "rank"), [(0.5, 10), (0.9, 18), (0.95, 19), (0.99, 20)])
def test_nearest_rank_of_twenty(quantile: float, rank: int) -> None:
    assert stats.nearest_rank(list(range(1, 21)), quantile) == rank


@given(SAMPLES, st.floats(0.001, 0.999))
def test_nearest_rank_is_a_sample_with_its_share_at_or_below(
    samples: np.ndarray, quantile: float
) -> None:
    value = stats.nearest_rank(np.sort(samples), quantile)
    assert value in samples
    assert np.mean(samples <= value) >= quantile - 1e-9
    assert np.mean(samples < value) <= quantile + 1e-9


def most_above_by_exact_sums(n: int, quantile: Fraction) -> int:
    """The largest t with P(Binomial(n, 1 - quantile) <= t) < 1 %, by rational arithmetic."""
    total, t = Fraction(0), -1
    for k in range(n + 1):
        total += math.comb(n, k) * (1 - quantile) ** k * quantile ** (n - k)
        if total >= Fraction(1, 100):
            break
        t = k
    return t


@settings(deadline=None, max_examples=60)
@given(st.integers(64, 1500), st.sampled_from([Fraction(1, 2), Fraction(9, 10), Fraction(95, 100)]))
def test_early_stopping_discards_what_exact_arithmetic_allows(n: int, quantile: Fraction) -> None:
    if n < stats.n_min(float(quantile)):
        return
    estimate = stats.early_stopping_estimate(np.arange(n), float(quantile))
    assert estimate == n - most_above_by_exact_sums(n, quantile)


@pytest.mark.parametrize(
    ("n", "discarded"), [(700, 50), (3000, 260), (5000, 449)], ids=lambda v: str(v)
)
def test_early_stopping_agrees_with_what_loadgen_printed(n: int, discarded: int) -> None:
    # "Would discard N highest latency queries" of mlcommons-loadgen 6.0.17, p90, single stream.
    assert stats.early_stopping_estimate(np.arange(n), 0.9) == n - discarded - 1


def test_early_stopping_lies_at_or_above_the_plain_percentile() -> None:
    rng = np.random.default_rng(5)
    ordered = np.sort(rng.lognormal(10, 0.3, 1_000_000))
    for quantile in stats.PERCENTILES[1:]:
        estimate = stats.early_stopping_estimate(ordered, quantile)
        assert estimate is not None
        assert estimate >= stats.nearest_rank(ordered, quantile)


@settings(deadline=None)
@given(SAMPLES)
def test_the_interval_of_the_median_holds_samples_in_order(samples: np.ndarray) -> None:
    interval = stats.median_interval(samples, seed=3, resamples=200)
    assert samples.min() <= interval.low <= interval.high <= samples.max()
    assert interval.low in samples and interval.high in samples


@given(SAMPLES, st.integers(0, 2**32))
@settings(deadline=None, max_examples=25)
def test_the_interval_is_the_same_for_the_same_seed(samples: np.ndarray, seed: int) -> None:
    first = stats.median_interval(samples, seed, resamples=100)
    assert first == stats.median_interval(samples, seed, resamples=100)


def test_the_interval_narrows_with_the_root_of_the_count() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for n in (1_000, 100_000):
        samples = rng.lognormal(10, 0.05, n)
        interval = stats.median_interval(samples, 1)
        widths.append(interval.high - interval.low)
        expected = 2 * 1.96 * 1.2533 * 0.05 * stats.median(samples) / math.sqrt(n)
        assert widths[-1] == pytest.approx(expected, rel=0.25)


def ar1(rng: np.random.Generator, n: int, rho: float) -> np.ndarray:
    noise = rng.standard_normal(n) * math.sqrt(1 - rho**2)
    values = np.empty(n)
    values[0] = noise[0]
    for i in range(1, n):
        values[i] = rho * values[i - 1] + noise[i]
    return values


def test_the_interval_covers_the_truth_under_dependence() -> None:
    rng = np.random.default_rng(11)
    covered = 0
    for trial in range(100):
        samples = 1000 + 10 * ar1(rng, 800, 0.8)
        interval = stats.median_interval(samples, trial, resamples=400)
        covered += interval.low <= 1000 <= interval.high
    # Independent resampling would cover about half; 100 trials at 95 % rarely fall below 84.
    assert covered >= 84


def test_dependence_is_seen_where_there_is_some() -> None:
    rng = np.random.default_rng(2)
    assert stats.dependence_lag(rng.standard_normal(5000)) <= 2
    assert 8 <= stats.dependence_lag(ar1(rng, 20_000, 0.9)) <= 60
    assert stats.dependence_lag(np.full(100, 7)) == 1


def test_a_wave_hidden_under_huge_samples_is_still_seen() -> None:
    rng = np.random.default_rng(4)
    wave = 100 + 5 * np.sin(np.arange(4000) / 40) + rng.standard_normal(4000)
    wave[rng.integers(0, 4000, 40)] = 1e6
    assert stats.dependence_lag(wave) > 20


def test_equal_samples_have_an_interval_of_no_width() -> None:
    interval = stats.median_interval(np.full(500, 42), 1)
    assert (interval.low, interval.high) == (42, 42)
    assert interval.half_width(42) == 0


def test_spread_of_a_known_sample() -> None:
    spread = stats.spread(np.array([1, 2, 3, 4, 100]))
    assert (spread.mean, spread.minimum, spread.maximum, spread.mad) == (22, 1, 100, 1)
    assert spread.cv == pytest.approx(np.std([1, 2, 3, 4, 100]) / 22)
    assert spread.outliers == 1
    assert spread.outlier_share == pytest.approx((100 - 3) / 110)


def test_outliers_are_counted_on_a_coarse_clock_too() -> None:
    assert stats.spread(np.array([100] * 990 + [101] * 10)).outliers == 0
    assert stats.spread(np.array([100] * 990 + [5000] * 10)).outliers == 10


def test_outliers_weigh_the_time_they_took_not_how_often_they_came() -> None:
    # A tick of 20 every 5,000 units of time meets one of 50 short queries and one of 10 long ones.
    short = stats.spread(np.array([100, 101, 99] * 327 + [120] * 20))
    long = stats.spread(np.array([500, 501, 499] * 60 + [520] * 20))
    assert short.outliers == long.outliers == 20
    assert short.outlier_share == pytest.approx(0.004, rel=0.02)
    assert long.outlier_share == pytest.approx(0.004, rel=0.02)


def test_samples_far_below_the_median_took_no_time() -> None:
    spread = stats.spread(np.array([100, 101, 99] * 30 + [1]))
    assert (spread.outliers, spread.outlier_share) == (1, 0.0)


@given(st.floats(-50, 50), st.floats(-1000, 1000), st.integers(2, 40))
def test_theil_sen_finds_a_line(slope: float, offset: float, n: int) -> None:
    values = [offset + slope * i for i in range(n)]
    assert stats.theil_sen_slope(values) == pytest.approx(slope, abs=1e-6)


def test_one_wild_block_does_not_make_a_trend() -> None:
    assert stats.theil_sen_slope([100, 100, 250, 100, 100]) == 0


@pytest.mark.parametrize(
    ("medians", "steady"),
    [
        ([100] * 4, False),
        ([100] * 5, True),
        ([200, 150, 100, 100.5, 100.2, 100.4, 100.1], True),
        ([100, 100.5, 101, 101.5, 102], False),
        ([100, 104, 100, 104, 100], False),
        ([100, 102, 100, 102, 100], True),
    ],
)
def test_steady_means_neither_trend_nor_wandering(medians: list[float], steady: bool) -> None:
    assert stats.is_steady(medians) is steady


def test_drift_compares_the_last_quarter_with_the_first() -> None:
    assert stats.drift(np.array([100] * 50 + [110] * 50)) == pytest.approx(0.10)
    assert stats.drift(np.array([100] * 7)) == 0
