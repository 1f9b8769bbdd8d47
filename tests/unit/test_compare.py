"""Comparing: exact against brute force, slow to say that one variant wins."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.controller.comparing.figures import cell_figures
from assay.controller.comparing.paired_accuracy import (
    AccuracyFinding,
    compare_accuracy,
    mcnemar_exact,
)
from assay.controller.comparing.pairing import (
    environment_differences,
    pair_rounds,
    valid_statistic,
)
from assay.controller.records import ResultRecord
from assay.core.comparing.compare import (
    ASYMMETRY_ALPHA,
    LOOKS,
    Finding,
    InvalidRates,
    Look,
    Rules,
    compare,
    looks_for,
)
from assay.core.comparing.paired import PairedRound, Statistic, canary_shift
from assay.core.comparing.signed_rank import critical_k, cumulative, hodges_lehmann, interval
from tests.factories import INVALID, SUSPECT, make_cell, make_energy, make_result, make_variant


def rounds_of(effect: float, n: int, noise: float = 0.002, seed: int = 3) -> list[PairedRound]:
    """Rounds in which the candidate's ln stat lies ``effect`` above the baseline's."""
    rng = np.random.default_rng(seed)
    base = rng.normal(0, noise, n)
    return [
        PairedRound(math.exp(b), math.exp(b + effect + e), {"onnxruntime": 1.0})
        for b, e in zip(base, rng.normal(0, noise, n), strict=True)
    ]


def rank_sums(n: int) -> list[int]:
    """W of every assignment of signs, one by one."""
    return [
        sum(rank for rank, up in enumerate(signs, 1) if up)
        for signs in itertools.product((False, True), repeat=n)
    ]


@pytest.mark.parametrize("n", range(1, 11))
def test_distribution_is_that_of_every_assignment_of_signs(n: int) -> None:
    sums = rank_sums(n)
    for w, probability in enumerate(cumulative(n)):
        assert probability == sum(s <= w for s in sums) / 2**n


@pytest.mark.parametrize("n", range(1, 11))
@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.025, 0.01])
def test_critical_k_is_the_largest_that_stays_within_half_alpha(n: int, alpha: float) -> None:
    sums = rank_sums(n)
    fitting = [
        k for k in range(n * (n + 1) // 2 + 1) if sum(s <= k for s in sums) <= alpha / 2 * 2**n
    ]
    assert critical_k(n, alpha) == max(fitting, default=None)


@pytest.mark.parametrize("n", [6, 8, 10])
def test_interval_holds_exactly_the_shifts_the_test_does_not_reject(n: int) -> None:
    differences = list(np.random.default_rng(n).normal(0.01, 0.02, n))
    bounds = interval(differences, 0.05)
    assert bounds is not None
    sums = rank_sums(n)

    def rejected(shift: float) -> bool:
        moved = [d - shift for d in differences]
        order = sorted(range(n), key=lambda i: abs(moved[i]))
        w = sum(rank for rank, i in enumerate(order, 1) if moved[i] > 0)
        tail = min(sum(s <= w for s in sums), sum(s >= w for s in sums)) / 2**n
        return bool(tail <= 0.025)

    step = 1e-9
    assert rejected(bounds[0] - step) and not rejected(bounds[0] + step)
    assert rejected(bounds[1] + step) and not rejected(bounds[1] - step)


def test_interval_needs_six_differences_for_95_percent() -> None:
    assert interval([0.1] * 5, 0.05) is None
    assert interval([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 0.05) == (0.1, 0.6)


def test_hodges_lehmann_hardly_feels_an_outlier() -> None:
    assert hodges_lehmann([1.0, 2.0, 3.0]) == 2.0
    assert hodges_lehmann([1.0, 2.0, 1000.0]) == pytest.approx(251.25)
    assert hodges_lehmann([0.01] * 9 + [5.0]) == pytest.approx(0.01)


def test_looks_share_their_error_over_the_comparisons() -> None:
    assert looks_for(Rules()) == LOOKS
    assert [look.alpha for look in looks_for(Rules(comparisons=5))] == [0.002, 0.003, 0.005]


@pytest.mark.parametrize(("count", "first"), [(1, 10), (5, 10), (6, 11), (20, 12), (400, 17)])
def test_first_look_waits_until_its_level_can_be_reached(count: int, first: int) -> None:
    looks = looks_for(Rules(comparisons=count))
    assert looks[0].rounds == first == max(10, math.ceil(1 + math.log2(count / 0.01)))
    assert all(critical_k(look.rounds, look.alpha) is not None for look in looks)


def test_a_look_pushed_onto_the_next_one_falls_away() -> None:
    looks = looks_for(Rules(comparisons=10_000))
    assert [look.rounds for look in looks] == [21, 40]


def test_a_large_effect_is_confirmed_at_the_first_look_and_names_the_winner() -> None:
    found = compare(rounds_of(-0.05, 10), Rules())
    assert (found.finding, found.look, found.candidate_wins) == (Finding.CONFIRMED, 10, True)
    assert found.ratio == pytest.approx(0.951, abs=0.003)
    assert found.confidence == 0.99
    slower = compare(rounds_of(0.05, 10), Rules())
    assert slower.finding is Finding.CONFIRMED and not slower.candidate_wins


def test_equal_variants_are_equivalent() -> None:
    found = compare(rounds_of(0.0, 10), Rules())
    assert found.finding is Finding.EQUIVALENT
    assert not found.candidate_wins


def test_an_interval_that_excludes_zero_but_touches_the_margin_is_likely() -> None:
    differences = np.linspace(0.002, 0.026, 10)
    found = compare([PairedRound(1.0, math.exp(d)) for d in differences], Rules())
    assert found.low is not None and 0 < found.low < math.log1p(0.01)
    assert found.finding is Finding.LIKELY
    assert not found.candidate_wins


def test_a_wide_interval_is_inconclusive() -> None:
    found = compare(rounds_of(0.004, 20, noise=0.03), Rules())
    assert (found.finding, found.codes) == (Finding.INCONCLUSIVE, ("wide_interval",))


def test_a_decision_once_taken_stands() -> None:
    late = [PairedRound(1.0, 1.5) for _ in range(30)]
    found = compare([*rounds_of(-0.05, 10), *late], Rules())
    assert (found.finding, found.look, found.rounds) == (Finding.CONFIRMED, 10, 40)
    assert found.effect is not None and found.effect < 0


def test_rounds_between_two_looks_decide_nothing() -> None:
    undecided = rounds_of(0.004, 10, noise=0.03)
    more = compare([*undecided, *rounds_of(-0.3, 9)], Rules())
    assert (more.finding, more.look, more.rounds) == (Finding.INCONCLUSIVE, 10, 19)


@pytest.mark.parametrize(("n", "confidence"), [(1, None), (5, None), (6, 0.95), (9, 0.95)])
def test_before_the_first_look_there_is_never_a_winner(n: int, confidence: float | None) -> None:
    found = compare(rounds_of(-0.5, n), Rules())
    assert (found.finding, found.codes) == (Finding.INCONCLUSIVE, ("too_few_rounds",))
    assert found.confidence == confidence
    assert found.look is None and not found.candidate_wins
    assert found.low is not None and found.effect is not None and found.low <= found.effect


def test_no_shared_round_gives_no_effect() -> None:
    found = compare([], Rules())
    assert (found.effect, found.low, found.ratio) == (None, None, None)
    assert found.codes == ("too_few_rounds",)


def test_a_side_that_is_invalid_more_often_makes_it_inconclusive() -> None:
    spoiled = [PairedRound(1.0, None)] * 5
    found = compare([*rounds_of(-0.05, 10), *spoiled], Rules())
    assert (found.finding, found.codes) == (Finding.INCONCLUSIVE, ("asymmetric_validity",))
    assert (found.invalid.baseline, found.invalid.candidate, found.invalid.rounds) == (0, 5, 15)
    assert "candidate 5 of 15 (exact p 0.062)" in found.detail


@pytest.mark.parametrize(
    ("baseline_only", "candidate_only", "both", "objects"),
    [
        (0, 0, 0, False),
        (0, 4, 0, False),
        (0, 5, 0, True),
        (5, 0, 0, True),
        (1, 6, 0, False),
        (1, 7, 0, True),
        (2, 9, 7, True),
        (3, 9, 0, False),
        (0, 4, 40, False),
    ],
)
def test_asymmetry_is_what_chance_does_not_explain(
    baseline_only: int, candidate_only: int, both: int, objects: bool
) -> None:
    rates = InvalidRates(baseline_only + both, candidate_only + both, 60, both)
    assert rates.asymmetric is objects
    assert rates.probability == InvalidRates(rates.candidate, rates.baseline, 60, both).probability


@pytest.mark.parametrize("share", [0.03, 0.1, 0.3])
def test_chance_alone_is_objected_to_at_most_once_in_ten(share: float) -> None:
    """Exactly, over every split of 20 rounds whose sides are disturbed independently."""
    one = share * (1 - share)
    objected = 0.0
    for b in range(21):
        for c in range(21 - b):
            ways = math.comb(20, b) * math.comb(20 - b, c)
            chance = ways * one ** (b + c) * (1 - 2 * one) ** (20 - b - c)
            objected += chance * InvalidRates(b, c, 20).asymmetric
    assert objected <= ASYMMETRY_ALPHA


def test_as_many_invalid_rounds_on_both_sides_do_no_harm() -> None:
    spoiled = [PairedRound(1.0, None), PairedRound(None, 1.0), PairedRound(None, None)]
    assert compare([*rounds_of(-0.05, 10), *spoiled], Rules()).finding is Finding.CONFIRMED


def test_a_canary_that_moves_between_the_halves_makes_it_inconclusive() -> None:
    moved = [
        PairedRound(r.baseline, r.candidate, {"litert": 1.0 if i < 5 else 1.02, "onnxruntime": 1.0})
        for i, r in enumerate(rounds_of(-0.05, 10))
    ]
    found = compare(moved, Rules())
    assert (found.finding, found.codes) == (Finding.INCONCLUSIVE, ("device_drift",))
    assert found.canary_shift == pytest.approx(math.log(1.02))


def test_canary_shift_leaves_the_middle_round_out_and_needs_two_a_half() -> None:
    assert canary_shift([1.0, 1.0, 5.0, 1.1, 1.1]) == pytest.approx(math.log(1.1))
    assert canary_shift([1.0, 1.1, 1.0]) is None


def test_rounds_are_paired_by_id_and_sides_that_are_not_valid_left_empty() -> None:
    base = make_cell(baseline=True)
    other = make_cell(make_variant(), threads=4)
    canary = make_cell(make_variant(), threads=2, canary=True)
    paired = pair_rounds(
        [make_result(base, round_index=i, p50_ns=100.0) for i in (1, 0, 3)],
        [
            make_result(other, round_index=0, p50_ns=90.0),
            make_result(other, round_index=1, p50_ns=80.0, verdict=SUSPECT),
            make_result(other, round_index=2, p50_ns=70.0),
        ],
        [make_result(canary, round_index=i, p50_ns=50.0 + i) for i in range(3)],
    )
    assert paired == [
        PairedRound(100.0, 90.0, {"onnxruntime": 50.0}),
        PairedRound(100.0, None, {"onnxruntime": 51.0}),
    ]


def test_results_of_two_grants_of_a_round_are_no_pair() -> None:
    """The device lost its first grant after both had run, the second after the baseline."""
    base, other = make_cell(baseline=True), make_cell(make_variant(), threads=4)
    canary = make_cell(make_variant(), threads=2, canary=True)
    lost = make_result(base, p50_ns=50.0, fence=2)
    first = [make_result(base, p50_ns=100.0), lost]
    kept = PairedRound(100.0, 90.0, {"onnxruntime": 40.0})
    canaries = [make_result(canary, p50_ns=40.0), make_result(canary, p50_ns=60.0, fence=2)]
    assert pair_rounds(first, [make_result(other, p50_ns=90.0)], canaries) == [kept]
    assert pair_rounds([lost], [make_result(other, p50_ns=90.0)], canaries) == []
    both = [make_result(other, p50_ns=90.0), make_result(other, p50_ns=45.0, fence=2)]
    assert pair_rounds(first, both, canaries) == [PairedRound(50.0, 45.0, {"onnxruntime": 60.0})]


def test_energies_pair_only_in_rounds_read_as_the_newest() -> None:
    def read(record: ResultRecord) -> ResultRecord:
        conditions = record.result.conditions
        assert conditions is not None
        notes = {"power_calibration": "p (0a1b)"} if record.result.round_index > 1 else {}
        result = replace(record.result, conditions=replace(conditions, notes=notes))
        return replace(record, result=result)

    base, other = make_cell(baseline=True), make_cell(make_variant(), threads=4)
    left, right = (
        [read(make_result(cell, round_index=i, energy=make_energy(j))) for i in range(4)]
        for cell, j in ((base, 0.004), (other, 0.003))
    )
    assert pair_rounds(left, right, [], Statistic.ENERGY) == [PairedRound(0.004, 0.003, {})] * 2
    assert len(pair_rounds(left, right, [], Statistic.P50)) == 4
    raw = replace(right[2].result, conditions=right[0].result.conditions)
    mixed = [*right[:2], replace(right[2], result=raw), right[3]]
    assert pair_rounds(left, mixed, [], Statistic.ENERGY) == [PairedRound(0.004, 0.003, {})]


def test_statistics_come_only_from_valid_results_that_have_them() -> None:
    good = make_result(energy=make_energy(0.004)).result
    assert valid_statistic(good, Statistic.P50) == good.latency.p50_ns  # type: ignore[union-attr]
    assert valid_statistic(good, Statistic.ENERGY) == 0.004
    assert valid_statistic(good, Statistic.PEAK_MEMORY) == good.memory.process_peak_bytes  # type: ignore[union-attr]
    unsure = make_result(energy=make_energy(inconclusive=True)).result
    assert valid_statistic(unsure, Statistic.ENERGY) is None
    assert valid_statistic(make_result().result, Statistic.ENERGY) is None
    assert valid_statistic(make_result(verdict=INVALID).result, Statistic.P50) is None


def test_environments_that_differ_are_named() -> None:
    left = make_result().result
    right = make_result(environment=dict(left.environment) | {"governor": "ondemand"}).result
    assert environment_differences(left, left) == []
    assert environment_differences(left, right) == ["governor: performance, ondemand"]


def test_factors_that_differ_though_nobody_asked_are_named() -> None:
    made = make_result().result
    old = replace(made, factors={"runtime": "onnxruntime 1.31.0", "threads": "1"})
    new = replace(made, factors={"runtime": "onnxruntime 1.32.0", "threads": "1", "precision": "x"})
    assert environment_differences(old, old) == []
    assert environment_differences(old, new) == ["runtime: onnxruntime 1.31.0, onnxruntime 1.32.0"]
    asked = replace(new.run, runtime=replace(new.run.runtime, version="1.32.0"))
    assert environment_differences(old, replace(new, run=asked)) == []


def test_a_runtime_upgraded_between_two_rounds_is_not_pooled() -> None:
    first, second, third = (
        replace(
            made := make_result(),
            recorded_ns=number,
            result=replace(made.result, factors={"runtime": f"onnxruntime {version}"}),
        )
        for number, version in enumerate(("1.31.0", "1.32.0", "1.32.0"))
    )
    figures = cell_figures([first, second, third])
    assert figures.counted == (second, third) and figures.elsewhere == (first,)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-0.2, 0.2), min_size=6, max_size=24),
    st.floats(-0.1, 0.1),
)
def test_interval_moves_with_the_data_and_turns_with_its_sign(
    differences: list[float], shift: float
) -> None:
    bounds = interval(differences, 0.05)
    moved = interval([d + shift for d in differences], 0.05)
    turned = interval([-d for d in differences], 0.05)
    assert bounds is not None and moved is not None and turned is not None
    assert moved == pytest.approx((bounds[0] + shift, bounds[1] + shift), abs=1e-9)
    assert turned == pytest.approx((-bounds[1], -bounds[0]), abs=1e-12)
    assert bounds[0] <= hodges_lehmann(differences) <= bounds[1]


def test_equal_variants_are_hardly_ever_told_apart() -> None:
    rng = np.random.default_rng(11)
    found = []
    for _ in range(300):
        noise = 0.011 * rng.standard_t(4, (40, 2)) / math.sqrt(2)
        pairs = [PairedRound(math.exp(a), math.exp(b)) for a, b in noise]
        found.append(compare(pairs, Rules()).finding)
    assert found.count(Finding.CONFIRMED) <= 3
    assert found.count(Finding.LIKELY) <= 18
    assert found.count(Finding.EQUIVALENT) >= 240


def test_a_planted_three_percent_is_confirmed() -> None:
    rng = np.random.default_rng(12)
    found = []
    for _ in range(200):
        noise = 0.011 * rng.standard_t(4, (40, 2)) / math.sqrt(2)
        pairs = [PairedRound(math.exp(a), math.exp(b + math.log(1.03))) for a, b in noise]
        found.append(compare(pairs, Rules()))
    assert sum(f.finding is Finding.CONFIRMED for f in found) >= 198
    assert np.mean([f.look or 40 for f in found]) < 16


def test_other_looks_can_be_given() -> None:
    found = compare(rounds_of(-0.05, 8), Rules(looks=(Look(8, 0.05),)))
    assert (found.finding, found.look) == (Finding.CONFIRMED, 8)


def test_mcnemar_is_the_binomial_tail() -> None:
    for lost, gained in itertools.product(range(8), repeat=2):
        n = lost + gained
        outcomes = list(itertools.product((0, 1), repeat=n))
        low = min(lost, gained)
        tail = sum(sum(o) <= low for o in outcomes) / max(1, len(outcomes))
        assert mcnemar_exact(lost, gained) == pytest.approx(min(1.0, 2 * tail) if n else 1.0)


def test_accuracy_is_compared_on_the_same_samples() -> None:
    base = np.ones(2000, dtype=bool)
    other = base.copy()
    other[:4] = False
    found = compare_accuracy(base, other)
    assert (found.lost, found.gained, found.difference) == (4, 0, -0.002)
    assert found.low < -0.002 < found.high
    assert found.finding is AccuracyFinding.NON_INFERIOR
    other[:100] = False
    assert compare_accuracy(base, other).finding is AccuracyFinding.WORSE
    small = compare_accuracy(base[:50], np.arange(50) != 7)
    assert small.finding is AccuracyFinding.INCONCLUSIVE


def test_accuracy_of_different_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="same samples"):
        compare_accuracy(np.ones(3, dtype=bool), np.ones(4, dtype=bool))
