"""The ranking and the comparisons as the template prints them: strings, classes, small drawings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from assay.controller.comparing.figures import EnergyFigure, Estimate, Spread
from assay.controller.comparing.findings import accuracy_text
from assay.controller.comparing.numbers import (
    Unit,
    count,
    digits,
    energy_unit,
    ratio,
    signed,
    size,
    time_unit,
)
from assay.controller.comparing.paired_accuracy import AccuracyComparison
from assay.controller.comparing.rows import Row, RowStatus, Section
from assay.controller.report.scatter import runtimes_of, shape
from assay.controller.report.svg import Scale, element, padded, path
from assay.core.comparing.compare import Comparison, Finding
from assay.core.model import Absent

_SPARK_WIDTH, _SPARK_HEIGHT = 112.0, 18.0
_FOREST_WIDTH = 260.0
BADGES = {
    RowStatus.VALID: ("ok", "✓"),
    RowStatus.SUSPECT: ("warn", "!"),
    RowStatus.INVALID: ("bad", "✕"),
    RowStatus.FAILED: ("bad", "✕"),
    RowStatus.PENDING: ("none", "…"),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """A table cell: what is read, what is sorted by, a second line and a class."""

    text: str
    sort: float | str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class RowView:
    """One row of the ranking."""

    anchor: str
    key: str
    is_reference: bool
    counts: bool
    series: int
    badge: tuple[str, str]
    status: str
    tally: str
    codes: tuple[str, ...]
    spark: Markup
    rank: Cell
    variant: str
    runtime: str
    format: str
    size: Cell
    macs: Cell
    accuracy: Cell
    p50: Cell
    latency_ratio: Cell
    p99: Cell
    memory: Cell
    energy: Cell


@dataclass(frozen=True, slots=True)
class ComparisonView:
    """One row of the comparisons against the baseline."""

    variant: str
    runtime: str
    series: int
    effect: str
    bounds: str
    what: str
    finding: str
    finding_class: str
    why: str
    forest: Markup
    accuracy: Cell


@dataclass(frozen=True, slots=True)
class TableView:
    """A section's ranking and comparisons."""

    title: str
    differs: tuple[str, ...]
    latency_unit: str
    energy_unit: str
    has_energy: bool
    energy_note: str
    spread_note: str
    rows: tuple[RowView, ...]
    comparisons: tuple[ComparisonView, ...]


def anchor_of(row: Row) -> str:
    """The id of a variant's detail block."""
    return f"variant-{row.cell.run.variant_id[-12:]}"


def table_view(section: Section, accuracy: dict[str, AccuracyComparison], title: str) -> TableView:
    """A section, ready to print."""
    latencies = [r.figures.p50 for r in section.rows if r.figures.p50]
    unit = time_unit(p.value for p in latencies)
    measured = [
        r.figures.energy for r in section.rows if isinstance(r.figures.energy, EnergyFigure)
    ]
    joule = energy_unit(e.total.value for e in measured)
    spark = _spark_scale(latencies)
    names = runtimes_of(section)
    rows = tuple(_row(r, section, unit, joule, spark, names) for r in section.rows)
    return TableView(
        title=title,
        differs=section.differs,
        latency_unit=unit.name,
        energy_unit=joule.name,
        has_energy=bool(measured),
        energy_note=_energy_note(section.rows),
        spread_note=_spread_note(latencies),
        rows=rows,
        comparisons=_comparisons(section, accuracy, names),
    )


def _row(
    row: Row,
    section: Section,
    unit: Unit,
    joule: Unit,
    spark: Scale | None,
    names: Sequence[str],
) -> RowView:
    figures, is_reference = row.figures, row is section.reference
    series = names.index(row.runtime)
    p99, peak = figures.latency.get(0.99), figures.memory.get("process_peak")
    return RowView(
        anchor=anchor_of(row),
        key=row.cell.cell_key[7:19],
        is_reference=is_reference,
        counts=row.counts,
        series=series % 6,
        badge=BADGES[row.status],
        status=row.status.value,
        tally=f"{row.valid} of {row.total}" if row.total else "",
        codes=tuple(dict.fromkeys(r.code for r in row.reasons)),
        spark=Markup(_spark(row, section, spark, series) if spark else ""),
        rank=_rank(row),
        variant=row.variant,
        runtime=row.runtime,
        format=row.format,
        size=Cell(
            size(row.size_bytes),
            row.size_bytes,
            ratio(row.size_ratio) if row.size_ratio is not None and not is_reference else "",
        ),
        macs=Cell("–" if row.macs is None else count(row.macs), row.macs),
        accuracy=Cell(accuracy_text(figures.quality), figures.quality.top1)
        if figures.quality
        else Cell("–"),
        p50=_latency(figures.p50, unit),
        latency_ratio=Cell("–")
        if row.latency_ratio is None
        else Cell(ratio(row.latency_ratio), row.latency_ratio),
        p99=Cell(unit.number(p99.value), p99.value) if p99 else Cell("–"),
        memory=Cell(size(peak.value), peak.value) if peak else Cell("–"),
        energy=_energy(figures.energy, joule),
    )


def _rank(row: Row) -> Cell:
    if row.rank is None:
        return Cell("–")
    return Cell(f"{row.rank}", row.rank, "tied" if row.tied else "")


def _latency(figure: Estimate | None, unit: Unit) -> Cell:
    if figure is None:
        return Cell("–")
    if figure.spread is Spread.SINGLE:
        return Cell(unit.number(figure.value), figure.value, "one run")
    bounds = f"{unit.number(figure.low)} – {unit.number(figure.high)}"
    return Cell(unit.number(figure.value), figure.value, bounds)


def _energy(energy: EnergyFigure | Absent, joule: Unit) -> Cell:
    if isinstance(energy, Absent):
        return Cell("–", None)
    note = f"± {digits(energy.u2_j / joule.scale, 2)}" + (
        " inconclusive" if energy.inconclusive else ""
    )
    return Cell(joule.number(energy.total.value), energy.total.value, note)


def _energy_note(rows: Sequence[Row]) -> str:
    absent = {r.figures.energy.reason for r in rows if isinstance(r.figures.energy, Absent)}
    if absent:
        return f"Energy not measured: {'; '.join(sorted(absent))}."
    tiers = {
        f"{r.figures.energy.tier}, {r.figures.energy.scope}"
        for r in rows
        if isinstance(r.figures.energy, EnergyFigure)
    }
    return f"Energy per inference by {'; '.join(sorted(tiers))}, ± two standard uncertainties."


def _spread_note(latencies: Sequence[Estimate]) -> str:
    spreads = {p.spread for p in latencies}
    notes = []
    if Spread.RANGE in spreads:
        notes.append("the range over restarts where there are fewer than six")
    if Spread.INTERVAL in spreads:
        notes.append("the 95 % interval over restarts")
    return f"Below each p50 stands {' and '.join(notes)}." if notes else ""


def _spark_scale(latencies: Sequence[Estimate]) -> Scale | None:
    values = [v for p in latencies for v in (p.low, p.high)]
    if not values:
        return None
    log = max(values) / min(values) > 3
    return padded(values, 4.0, _SPARK_WIDTH - 4.0, log=log, pad=0.04)


def _spark(row: Row, section: Section, across: Scale, series: int) -> str:
    middle = _SPARK_HEIGHT / 2
    drawn = [path([(0.0, middle), (_SPARK_WIDTH, middle)], class_="grid")]
    reference = section.reference
    if reference is not None and reference.figures.p50 is not None:
        x = across(reference.figures.p50.value)
        drawn.append(path([(x, 0.0), (x, _SPARK_HEIGHT)], class_="base"))
    p50 = row.figures.p50
    if p50 is not None:
        kind = f"s{series % 6}" if row.counts else "out"
        low, high = across(p50.low), across(p50.high)
        drawn.append(path([(low, middle), (high, middle)], class_=f"bar {kind}"))
        drawn.append(shape(series, across(p50.value), middle, 4.0, class_=f"mark {kind}"))
    return element(
        "svg",
        *drawn,
        viewBox=f"0 0 {_SPARK_WIDTH:g} {_SPARK_HEIGHT:g}",
        class_="spark",
        aria_hidden="true",
    )


def _comparisons(
    section: Section, accuracy: dict[str, AccuracyComparison], names: Sequence[str]
) -> tuple[ComparisonView, ...]:
    rows = [
        (r, r.comparison)
        for r in section.rows
        if r.comparison is not None and r.comparison.effect is not None
    ]
    reach = max((abs(v) for _, c in rows for v in (c.low, c.high) if v is not None), default=0.0)
    across = Scale(-max(reach, 0.05) * 1.05, max(reach, 0.05) * 1.05, 4.0, _FOREST_WIDTH - 4)
    return tuple(
        ComparisonView(
            variant=row.variant,
            runtime=row.runtime,
            series=names.index(row.runtime) % 6,
            effect=_change(found.effect),
            bounds=f"{_change(found.low)} to {_change(found.high)}",
            what=_bounds_name(found),
            finding=_finding_text(found),
            finding_class=_finding_class(found),
            why=", ".join(found.codes),
            forest=Markup(_forest(found, across, names.index(row.runtime))),
            accuracy=_accuracy_change(accuracy.get(row.cell.cell_key), row, section),
        )
        for row, found in rows
    )


def _change(effect: float | None) -> str:
    if effect is None:
        return "–"
    change = 100 * math.expm1(effect)
    return f"{signed(change, 1 if abs(change) < 99.5 else 0)} %"


def _bounds_name(found: Comparison) -> str:
    """What the bounds are, and how often either side was not VALID: the rounds are chosen by it."""
    rates = found.invalid
    spoilt = (
        f"; not VALID {rates.baseline}/{rates.rounds} (baseline), {rates.candidate}/{rates.rounds}"
    )
    if found.confidence is None:
        return f"range of {found.rounds} rounds{spoilt}"
    rounds = found.look or found.rounds
    return f"{100 * found.confidence:.4g} % interval, {rounds} rounds{spoilt}"


def _finding_text(found: Comparison) -> str:
    if found.finding in (Finding.CONFIRMED, Finding.LIKELY) and found.effect is not None:
        return f"{found.finding.value} {'faster' if found.effect < 0 else 'slower'}"
    return found.finding.value


def _finding_class(found: Comparison) -> str:
    if found.finding is Finding.CONFIRMED:
        return "ok" if found.candidate_wins else "bad"
    return {Finding.LIKELY: "warn", Finding.EQUIVALENT: "same"}.get(found.finding, "none")


def _forest(found: Comparison, across: Scale, series: int) -> str:
    middle = 9.0
    drawn = [
        path([(4.0, middle), (_FOREST_WIDTH - 4, middle)], class_="grid"),
        path([(across(0.0), 0.0), (across(0.0), 18.0)], class_="base"),
    ]
    if found.effect is not None and found.low is not None and found.high is not None:
        span = [(across(found.low), middle), (across(found.high), middle)]
        drawn.append(path(span, class_=f"bar s{series % 6}"))
        drawn.append(shape(series, across(found.effect), middle, 4.0, class_=f"mark s{series % 6}"))
    return element(
        "svg", *drawn, viewBox=f"0 0 {_FOREST_WIDTH:g} 18", class_="forest", aria_hidden="true"
    )


def _accuracy_change(found: AccuracyComparison | None, row: Row, section: Section) -> Cell:
    if found is not None:
        low, high = signed(100 * found.low, 2), signed(100 * found.high, 2)
        finding = found.finding.value.replace("_", "-")
        return Cell(
            f"{signed(100 * found.difference, 2)} points", None, f"{low} to {high}, {finding}"
        )
    reference = section.reference
    if reference is None or not reference.figures.quality or not row.figures.quality:
        return Cell("–")
    change = row.figures.quality.top1 - reference.figures.quality.top1
    return Cell(f"{signed(100 * change, 2)} points")
