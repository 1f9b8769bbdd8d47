"""The store as Prometheus text: points from sweeps, families from points. No threads, no sockets.

Every number comes from the :mod:`summary` the report is made of, so that the two agree. A label set
that several sweeps or several devices share shows its newest result.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from assay.controller.comparing.figures import CellFigures, EnergyFigure, Estimate
from assay.controller.comparing.labels import scenario_label
from assay.controller.comparing.rows import CanaryRow, Row, Section, Summary
from assay.controller.comparing.summary import count_reasons
from assay.controller.metrics.text import Families, Labels
from assay.controller.records import ResultRecord, VariantRecord
from assay.core.comparing.compare import Comparison
from assay.core.model import Energy, Result, VerdictKind

SERIES_BUDGET = 50_000
_SECOND_NS = 1e9

Sample = tuple[str, Labels, float]


@dataclass(frozen=True, slots=True)
class Point:
    """What one label set shows: ``labels`` without the device, which the budget may take away."""

    device: str
    labels: Labels
    recorded_ns: int
    samples: tuple[tuple[str, Labels, float], ...]


@dataclass(frozen=True, slots=True)
class SweepFacts:
    """One sweep, reduced to what the page needs of it."""

    points: tuple[Point, ...] = ()
    variants: tuple[Sample, ...] = ()
    verdicts: Mapping[str, int] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)


def sweep_facts(
    summary: Summary, own: Iterable[ResultRecord], variants: Mapping[str, VariantRecord]
) -> SweepFacts:
    """Reduces a sweep; ``own`` are the results it measured itself, which alone are counted."""
    measured = list(own)
    verdicts = Counter(record.result.verdict.kind.value for record in measured)
    reasons: Counter[str] = Counter()
    for counted in count_reasons(measured):
        reasons[counted.code] += counted.count
    by_cell: dict[str, list[ResultRecord]] = {}
    for record in measured:
        by_cell.setdefault(record.result.run.cell_key, []).append(record)
    points = [
        point
        for section in summary.sections
        for row in section.rows
        if (point := _row_point(section, row, by_cell.get(row.cell.cell_key, ()))) is not None
    ]
    points += [_canary_point(c) for c in summary.canaries if c.figures.counts]
    samples = {s[:2]: s for row in summary.rows for s in _variant_samples(row, variants)}
    return SweepFacts(tuple(points), tuple(samples.values()), verdicts, reasons)


def results_page(facts: Sequence[SweepFacts], budget: int = SERIES_BUDGET) -> tuple[bytes, int]:
    """The page's part about results, and how many series the budget left out.

    ``facts`` run from the oldest sweep to the newest.
    """
    points, dropped = within_budget([p for f in facts for p in f.points], budget)
    families = Families()
    for point in points:
        for name, tail, value in point.samples:
            families.add(name, (*point.labels[:1], point.device, *point.labels[1:], *tail), value)
    for sample in {s[:2]: s for f in facts for s in f.variants}.values():
        families.add(*sample)
    verdicts = Counter({kind.value: 0 for kind in VerdictKind})
    reasons: Counter[str] = Counter()
    for fact in facts:
        verdicts.update(fact.verdicts)
        reasons.update(fact.reasons)
    for verdict, n in sorted(verdicts.items()):
        families.add("assay_results_total", (verdict,), n)
    for code, n in sorted(reasons.items()):
        families.add("assay_result_reasons_total", (code,), n)
    families.add("assay_series_dropped", (), dropped)
    return families.page(), dropped


def within_budget(points: Sequence[Point], budget: int) -> tuple[list[Point], int]:
    """The newest point of each label set, and how many series had to go.

    Over the budget the device label goes first; if that is not enough, the oldest points go.
    """
    kept = _newest(points)
    wanted = _series(kept)
    if wanted <= budget:
        return kept, 0
    kept = _newest([replace(point, device="") for point in kept])
    room, fitting = budget, []
    for point in sorted(kept, key=lambda p: p.recorded_ns, reverse=True):
        room -= len(point.samples)
        if room < 0:
            break
        fitting.append(point)
    return fitting, wanted - _series(fitting)


def _row_point(section: Section, row: Row, own: Sequence[ResultRecord]) -> Point | None:
    """A cell that does not count shows how many results it has, and no figure."""
    figures = row.figures
    samples = list(_cell_samples(figures)) if row.counts else []
    if row.latency_ratio is not None:
        samples.append(("assay_latency_ratio", (), row.latency_ratio))
    if row.comparison is not None:
        samples += _comparison_samples(row.comparison)
    kinds = Counter(record.result.verdict.kind.value for record in own)
    samples += [("assay_cell_results", (kind,), n) for kind, n in sorted(kinds.items())]
    if not samples:
        return None
    newest = [*figures.counted[-1:], *own[-1:]]
    return Point(
        device=section.device,
        labels=(section.device_class, row.model, row.variant, row.runtime, section.scenario),
        recorded_ns=max(record.recorded_ns for record in newest),
        samples=tuple(samples),
    )


def _canary_point(canary: CanaryRow) -> Point:
    samples = [
        ("assay_canary_latency_seconds", (f"{q:g}",), figure.value / _SECOND_NS)
        for q, figure in canary.figures.latency.items()
    ]
    return Point(
        device=canary.device,
        labels=(canary.device_class, canary.runtime, scenario_label(canary.cell.run.scenario)),
        recorded_ns=canary.figures.counted[-1].recorded_ns,
        samples=tuple(samples),
    )


def _cell_samples(figures: CellFigures) -> Iterator[Sample]:
    for q, figure in figures.latency.items():
        tail = (f"{q:g}",)
        yield "assay_latency_seconds", tail, figure.value / _SECOND_NS
        yield "assay_latency_range_low_seconds", tail, figure.low / _SECOND_NS
        yield "assay_latency_range_high_seconds", tail, figure.high / _SECOND_NS
    yield "assay_latency_restarts", (), len(figures.counted)
    for part, figure in figures.memory.items():
        yield "assay_memory_bytes", (part,), figure.value
    if isinstance(figures.energy, EnergyFigure) and not figures.energy.inconclusive:
        source = (figures.energy.tier, figures.energy.scope)
        yield "assay_energy_joules", source, figures.energy.total.value
        yield "assay_energy_uncertainty_joules", source, figures.energy.u2_j
    if figures.quality is not None:
        yield "assay_accuracy_ratio", (), figures.quality.top1
        yield "assay_accuracy_samples", (), figures.quality.n
    yield from _seconds("assay_model_load_seconds", figures.load_ns)
    yield from _seconds("assay_first_inference_seconds", figures.first_inference_ns)
    newest = figures.counted[-1]
    yield "assay_result_timestamp_seconds", (), newest.recorded_ns / _SECOND_NS
    yield from _run_samples(newest.result)


def _run_samples(run: Result) -> Iterator[Sample]:
    """The board during one run, beside its latency."""
    conditions = run.conditions
    if conditions is not None and conditions.temperature_max_c is not None:
        yield "assay_run_temperature_celsius", (), conditions.temperature_max_c
    if conditions is not None and conditions.clock_median_hz is not None:
        yield "assay_run_clock_hertz", (), conditions.clock_median_hz
    if isinstance(run.energy, Energy):
        source = (run.energy.tier.value, run.energy.scope)
        yield "assay_run_power_watts", (*source, "idle"), run.energy.idle_w
        yield "assay_run_power_watts", (*source, "active"), run.energy.active_w


def _comparison_samples(comparison: Comparison) -> Iterator[Sample]:
    yield "assay_comparison_finding", (comparison.finding.value,), 1
    if comparison.effect is None or comparison.low is None or comparison.high is None:
        return
    yield "assay_comparison_ratio", (), math.exp(comparison.effect)
    yield "assay_comparison_low_ratio", (), math.exp(comparison.low)
    yield "assay_comparison_high_ratio", (), math.exp(comparison.high)


def _seconds(name: str, figure: Estimate | None) -> Iterator[Sample]:
    if figure is not None:
        yield name, (), figure.value / _SECOND_NS


def _variant_samples(row: Row, variants: Mapping[str, VariantRecord]) -> Iterator[Sample]:
    yield "assay_artifact_size_bytes", (row.model, row.variant, row.runtime), row.size_bytes
    if row.macs is not None:
        yield "assay_macs", (row.model, row.variant), row.macs
    variant = variants.get(row.cell.run.variant_id)
    if variant is not None:
        labels = (row.model, row.variant, variant.origin, variant.dataset)
        yield "assay_variant_info", labels, 1


def _newest(points: Iterable[Point]) -> list[Point]:
    kept: dict[tuple[str, Labels], Point] = {}
    for point in points:
        key = (point.device, point.labels)
        held = kept.get(key)
        if held is None or point.recorded_ns >= held.recorded_ns:
            kept[key] = point
    return list(kept.values())


def _series(points: Iterable[Point]) -> int:
    return sum(len(point.samples) for point in points)
