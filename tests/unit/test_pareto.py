"""Which cells nothing beats in both latency and accuracy, and how sure that is."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.controller.comparing.figures import Estimate, Spread
from assay.controller.comparing.findings import sentences
from assay.controller.comparing.pareto import Standing, accuracy_span, standings
from assay.controller.comparing.rows import Row
from assay.controller.comparing.summary import summarise
from assay.controller.report.scatter import scatter
from assay.core.comparing.compare import Comparison, Finding, InvalidRates
from assay.core.comparing.paired import Statistic
from assay.core.model import Quality
from tests.factories import SHAPES, make_energy, make_sweep

_TEMPLATE = next(r for r in summarise(make_sweep()).rows if r.counts and r.figures.quality)


def row(key: str, p50: float, top1: float, *, spread: float = 0.0, n: int = 10_000) -> Row:
    """A cell that counts; ``spread`` is how far its restarts lie apart on either side."""
    quality = _TEMPLATE.figures.quality
    assert quality is not None
    figures = replace(
        _TEMPLATE.figures,
        latency={0.5: Estimate(p50, p50 - spread, p50 + spread, 3, Spread.RANGE)},
        quality=replace(quality, top1=top1, n=n),
    )
    return replace(_TEMPLATE, cell=replace(_TEMPLATE.cell, cell_key=key), figures=figures)


def names(rows: list[Row], wanted: Standing) -> list[str]:
    return [key for key, standing in standings(rows).items() if standing is wanted]


def test_what_is_slower_and_no_more_accurate_is_dominated() -> None:
    rows = [row("fast", 1, 0.90), row("good", 3, 0.95), row("slow", 2, 0.90), row("bad", 4, 0.80)]
    assert names(rows, Standing.FRONT) == ["fast", "good"]
    assert names(rows, Standing.DOMINATED) == ["slow", "bad"]


def test_what_noise_explains_is_not_dominated() -> None:
    rows = [row("one", 1.00, 0.900, spread=0.05), row("other", 1.02, 0.899, spread=0.05)]
    assert names(rows, Standing.FRONT) == ["one"]
    assert names(rows, Standing.WITHIN_NOISE) == ["other"]


def test_a_clear_gain_in_accuracy_at_the_same_pace_dominates() -> None:
    rows = [row("right", 1.0, 0.95, spread=0.004), row("wrong", 1.001, 0.80, spread=0.004)]
    assert names(rows, Standing.DOMINATED) == ["wrong"]


def test_what_may_yet_be_faster_by_more_than_the_margin_is_not_dominated() -> None:
    rows = [row("right", 1.0, 0.95, spread=0.2), row("wrong", 1.1, 0.80, spread=0.2)]
    assert names(rows, Standing.WITHIN_NOISE) == ["wrong"]


def test_what_may_yet_be_more_accurate_by_a_point_is_not_dominated() -> None:
    fast, slow = row("fast", 1, 0.90, n=400), row("slow", 2, 0.90, n=400)
    assert names([fast, slow], Standing.DOMINATED) == []


def duel(found: Row, other: Row, low: float, high: float, *codes: str, sure: bool = False) -> Row:
    """``found`` with what paired rounds say of it against ``other``."""
    result = Comparison(
        statistic=Statistic.P50,
        finding=Finding.CONFIRMED if sure else Finding.INCONCLUSIVE,
        codes=codes,
        effect=(low + high) / 2,
        low=low,
        high=high,
        confidence=0.99,
        rounds=20,
        look=20,
        canary_shift=None,
        invalid=InvalidRates(0, 0, 20),
    )
    return replace(found, duels={other.cell.cell_key: result})


def test_paired_rounds_decide_where_there_are_enough_of_them() -> None:
    """Ranges that overlap hide what pairs show, and ranges apart may be luck."""
    fast, slow = row("fast", 1.00, 0.90, spread=0.2), row("slow", 1.05, 0.90, spread=0.2)
    assert names([fast, slow], Standing.DOMINATED) == []
    assert names([fast, duel(slow, fast, 0.03, 0.06, sure=True)], Standing.DOMINATED) == ["slow"]
    assert names([duel(fast, slow, -0.06, -0.03, sure=True), slow], Standing.DOMINATED) == ["slow"]
    fast, slow = row("fast", 1.00, 0.90), row("slow", 1.05, 0.90)
    assert names([fast, slow], Standing.DOMINATED) == ["slow"]
    unsure = duel(slow, fast, -0.01, 0.11, "wide_interval")
    assert names([fast, unsure], Standing.DOMINATED) == []


def test_a_lead_in_accuracy_needs_paired_rounds_that_exclude_being_slower() -> None:
    right, wrong = row("right", 1.0, 0.95), row("wrong", 1.0, 0.80)
    near = duel(wrong, right, -0.005, 0.03, "wide_interval")
    assert names([right, near], Standing.DOMINATED) == ["wrong"]
    open_ = duel(wrong, right, -0.02, 0.03, "wide_interval")
    assert names([right, open_], Standing.DOMINATED) == []
    drifting = duel(wrong, right, -0.005, 0.03, "device_drift")
    assert names([right, drifting], Standing.DOMINATED) == []


def test_a_sweep_of_many_rounds_is_judged_by_its_pairs() -> None:
    shapes = [s for s in SHAPES if s.name in ("fp32", "int8-static", "control")]
    data = make_sweep(shapes=shapes, runtimes=["onnxruntime"], rounds=20, spoil=False)
    (section,) = summarise(data).sections
    pairs = [found for r in section.rows for found in r.duels.values()]
    # Three pairs, two axes: each look's error is divided by six, and the first comes at 11.
    assert len(pairs) == 3 and {found.look for found in pairs} <= {11, 20}
    assert all(1 - 0.016 / 6 <= (found.confidence or 0) < 1 for found in pairs)
    found = standings(section.rows)
    by_name = {r.variant: found[r.cell.cell_key] for r in section.rows}
    assert by_name["fp32"] is not Standing.DOMINATED
    short = make_sweep(shapes=shapes, runtimes=["onnxruntime"], rounds=10, spoil=False)
    assert not any(r.duels for r in summarise(short).rows)


def test_twins_are_both_on_the_front() -> None:
    assert names([row("a", 1, 0.9), row("b", 1, 0.9)], Standing.FRONT) == ["a", "b"]


def test_cells_that_do_not_count_or_have_no_accuracy_have_no_standing() -> None:
    rows = summarise(make_sweep()).rows
    found = standings(rows)
    assert found.keys() == {r.cell.cell_key for r in rows if r.counts and r.figures.quality}


def test_a_lead_in_accuracy_that_may_be_luck_does_not_make_a_front() -> None:
    """Two samples of 10,000 do not make up for three times the latency."""
    rows = [row("int8", 58, 0.8875), row("fp32", 171, 0.8877), row("tiny", 45, 0.8462)]
    assert names(rows, Standing.FRONT) == ["int8", "tiny"]
    assert names(rows, Standing.WITHIN_NOISE) == ["fp32"]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=9))
def test_without_noise_the_front_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    rows = [row(str(i), p50, top1 / 10, n=10**9) for i, (p50, top1) in enumerate(points)]
    found = standings(rows)
    for i, (p50, top1) in enumerate(points):
        beaten = any(a <= p50 and b >= top1 and (a, b) != (p50, top1) for a, b in points)
        assert found[str(i)] is (Standing.DOMINATED if beaten else Standing.FRONT)


def test_the_interval_of_an_accuracy_stays_a_share() -> None:
    quality = _TEMPLATE.figures.quality
    assert isinstance(quality, Quality)
    low, high = accuracy_span(replace(quality, top1=0.9, n=100))
    assert (low, high) == pytest.approx((0.8256, 0.9448), abs=1e-4)
    assert accuracy_span(replace(quality, top1=1.0, n=20)) == pytest.approx((0.8389, 1), abs=1e-4)
    assert accuracy_span(replace(quality, top1=1.0, n=0)) == (0.0, 1.0)


def test_a_few_samples_all_of_them_right_are_no_sure_lead() -> None:
    """20 of 20 against 16 of 20: Fisher's exact test gives p = 0.11."""
    rows = [row("right", 1.0, 1.0, spread=0.004, n=20), row("wrong", 1.001, 0.8, n=20)]
    assert names(rows, Standing.DOMINATED) == []
    many = [row("right", 1.0, 1.0, spread=0.004, n=200), row("wrong", 1.001, 0.8, n=200)]
    assert names(many, Standing.DOMINATED) == ["wrong"]


def test_the_report_says_and_draws_the_front() -> None:
    summary = summarise(make_sweep())
    said = {s.lead: s.text for s in sentences(summary)}
    assert said["Pareto front"].startswith("student in litert")
    assert "ithin the noise of it: " in said["Pareto front"]
    drawing = scatter(summary.sections[0])
    assert drawing is not None
    front = re.search(r'<path d="M([\d.]+) [^"]*" fill="none" class="front"/>', drawing)
    assert front is not None and 'class="front-band"' in drawing


def test_least_energy_names_those_it_is_not_told_apart_from() -> None:
    data = make_sweep(spoil=False)

    def measured(record: Any) -> Any:
        joules = 0.002 if record.result.run.variant_name == "student" else 0.0041
        return replace(record, result=replace(record.result, energy=make_energy(joules)))

    data = replace(data, results=tuple(map(measured, data.results)))
    said = {s.lead: s.text for s in sentences(summarise(data))}
    assert "not told apart from student in onnxruntime." in said["Least energy"]
