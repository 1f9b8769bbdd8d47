"""Turns a sweep into :mod:`rows`: figures per cell, sections, ranks and comparisons. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from assay.controller.comparing.figures import CellFigures, cell_figures
from assay.controller.comparing.labels import format_label, runtime_label, scenario_label
from assay.controller.comparing.pairing import environment_differences, pair_rounds
from assay.controller.comparing.rows import CanaryRow, ReasonCount, Row, RowStatus, Section, Summary
from assay.controller.comparing.sweep_data import SweepData
from assay.controller.records import CellRecord, DeviceRecord, ResultRecord
from assay.core.comparing.compare import Rules, compare, looks_for
from assay.core.comparing.paired import PairedRound, canary_shift
from assay.core.model import VerdictKind


@dataclass(frozen=True, slots=True)
class _Source:
    data: SweepData
    by_cell: Mapping[str, Sequence[ResultRecord]]
    force: bool

    def of(self, cell: CellRecord) -> Sequence[ResultRecord]:
        return self.by_cell.get(cell.cell_key, ())


def summarise(data: SweepData, *, force: bool = False) -> Summary:
    """Turns a sweep into rows, sections and counts; with ``force`` what was measured under other
    conditions is compared all the same, and every difference named."""
    by_cell: dict[str, list[ResultRecord]] = {}
    for record in data.results:
        by_cell.setdefault(record.result.run.cell_key, []).append(record)
    source = _Source(data, by_cell, force)
    measured = [c for c in data.cells if not c.run.canary]
    canaries = {c.cell_key: c for c in data.cells if c.run.canary}
    results = [record for cell in measured for record in source.of(cell)]
    kinds = Counter(r.result.verdict.kind for r in results)
    return Summary(
        name=data.sweep.name,
        sections=tuple(s for cells in _groups(data.cells) for s in _sections(cells, source)),
        canaries=tuple(_canary_row(cell, source) for cell in canaries.values()),
        valid=kinds[VerdictKind.VALID],
        suspect=kinds[VerdictKind.SUSPECT],
        invalid=kinds[VerdictKind.INVALID],
        reasons=count_reasons(results),
    )


def count_reasons(records: Iterable[ResultRecord]) -> tuple[ReasonCount, ...]:
    """Reason codes and failure codes over results, the most frequent first."""
    counts: Counter[tuple[str, bool]] = Counter()
    details: dict[tuple[str, bool], str] = {}
    for record in records:
        for code, hard, detail in _reasons_of(record):
            counts[code, hard] += 1
            details[code, hard] = detail
    return tuple(
        ReasonCount(code, hard, n, details[code, hard]) for (code, hard), n in counts.most_common()
    )


def _reasons_of(record: ResultRecord) -> list[tuple[str, bool, str]]:
    result = record.result
    found = [(r.code, r.hard, r.detail) for r in result.verdict.reasons]
    failure = result.failure
    if failure is not None and failure.code not in {code for code, _, _ in found}:
        found.append((failure.code, True, failure.message))
    return found


def _groups(cells: Iterable[CellRecord]) -> Iterable[list[CellRecord]]:
    groups: dict[str, list[CellRecord]] = {}
    for cell in cells:
        groups.setdefault(cell.group, []).append(cell)
    return groups.values()


def _row(cell: CellRecord, source: _Source) -> Row:
    variant = source.data.variants.get(cell.run.variant_id)
    records = source.of(cell)
    file = variant.files.get(cell.run.artifact.media_type) if variant else None
    figures = cell_figures(records, force=source.force)
    return Row(
        cell=cell,
        variant=cell.run.variant_name,
        model=variant.model if variant else "",
        format=format_label(cell.run.artifact),
        runtime=runtime_label(cell.run.runtime),
        size_bytes=cell.run.artifact.size_bytes,
        cost=file.cost if file else None,
        figures=figures,
        status=_status(figures, records),
        valid=sum(r.result.verdict.kind is VerdictKind.VALID for r in records),
        total=len(records),
        reasons=count_reasons(records),
        baseline=cell.baseline,
    )


def _status(figures: CellFigures, records: Sequence[ResultRecord]) -> RowStatus:
    if figures.counts:
        return RowStatus.VALID
    if not records:
        return RowStatus.PENDING
    measured = [r.result.verdict.kind for r in records if r.result.latency is not None]
    if not measured:
        return RowStatus.FAILED
    return RowStatus.SUSPECT if VerdictKind.SUSPECT in measured else RowStatus.INVALID


def _sections(cells: Sequence[CellRecord], source: _Source) -> list[Section]:
    """Splits a group by environment, the baseline's first; rows that do not count stay there."""
    rows = [_row(cell, source) for cell in cells if not cell.run.canary]
    if not rows:
        return []
    canaries = [record for cell in cells if cell.run.canary for record in source.of(cell)]
    ordered = sorted(rows, key=lambda r: not (r.baseline and r.counts))
    if source.force:
        return [_section(ordered, _all_differences(ordered), canaries, source)]
    parts: list[list[Row]] = []
    for row in ordered:
        if not row.counts:
            continue
        # With all of them: two runtimes hide what differs between two rows of a third.
        fitting = (p for p in parts if not any(_differences(other, row) for other in p))
        part = next(fitting, None)
        if part is None:
            parts.append([row])
        else:
            part.append(row)
    rest = [row for row in ordered if not row.counts]
    parts = [[*parts[0], *rest], *parts[1:]] if parts else [rest]
    first = parts[0]
    return [
        _section(part, [] if part is first else _between(first, part), canaries, source)
        for part in parts
    ]


def _differences(left: Row, right: Row) -> list[str]:
    if not (left.counts and right.counts):
        return []
    return environment_differences(
        left.figures.counted[-1].result, right.figures.counted[-1].result
    )


def _between(rows: Sequence[Row], others: Sequence[Row]) -> list[str]:
    """What sets the others apart, by name."""
    found = (name for row in rows for other in others for name in _differences(row, other))
    return list(dict.fromkeys(found))


def _all_differences(rows: Sequence[Row]) -> list[str]:
    """What any two results that are compared differ in, as far as it was not asked for."""
    counted = [record.result for row in rows for record in row.figures.counted]
    found = (name for each in counted for name in environment_differences(counted[0], each))
    return list(dict.fromkeys(found))


def _section(
    rows: Sequence[Row],
    differs: Sequence[str],
    canaries: Sequence[ResultRecord],
    source: _Source,
) -> Section:
    reference = next((r for r in rows if r.baseline and r.counts), None)
    ranked = _ranked(rows)
    judged = [_against(row, reference, canaries, len(ranked) - 1, source) for row in ranked]
    judged = _duelled(judged, canaries, source)
    cell = rows[0].cell
    device = source.data.devices.get(cell.device_id)
    rest = [row for row in rows if not row.counts]
    ordered = [*judged, *sorted(rest, key=lambda r: (not r.baseline, r.variant, r.runtime))]
    if reference is not None:
        key = reference.cell.cell_key
        ordered.sort(key=lambda r: r.cell.cell_key != key)
        reference = ordered[0]
    return Section(
        device=device.name if device else cell.device_id,
        device_class=_class_of(device),
        scenario=scenario_label(cell.run.scenario),
        differs=tuple(differs),
        rows=tuple(ordered),
        reference=reference,
        forced=source.force,
    )


def _ranked(rows: Sequence[Row]) -> list[Row]:
    """Rows that count, by rank and p50. A row's rank is one more than the number of rows clearly
    faster than it: whose range or interval lies wholly below its own. A single run is no range:
    it lies behind ranges below it, and puts nothing behind itself."""
    counted = [(r, r.figures.p50) for r in rows]
    usable = sorted(((r, p) for r, p in counted if r.counts and p), key=lambda rp: rp[1].value)
    ranks = [1 + sum(p.clear_of(mine) for _, p in usable if p.restarts > 1) for _, mine in usable]
    shared = Counter(ranks)
    ordered = sorted(zip(ranks, usable, strict=True), key=lambda each: each[0])
    return [replace(row, rank=rank, tied=shared[rank] - 1) for rank, (row, _) in ordered]


def _against(
    row: Row,
    reference: Row | None,
    canaries: Sequence[ResultRecord],
    comparisons: int,
    source: _Source,
) -> Row:
    if reference is None or row.figures.p50 is None or reference.figures.p50 is None:
        return row
    row = replace(
        row,
        latency_ratio=row.figures.p50.value / reference.figures.p50.value,
        size_ratio=row.size_bytes / reference.size_bytes,
    )
    if row.cell.cell_key == reference.cell.cell_key:
        return row
    rounds = _rounds(reference, row, canaries, source)
    return replace(row, comparison=compare(rounds, Rules(comparisons=max(1, comparisons))))


def _duelled(rows: Sequence[Row], canaries: Sequence[ResultRecord], source: _Source) -> list[Row]:
    """Every row against every other, for the front: as many comparisons as pairs times the two axes
    that are measured."""
    rules = Rules(comparisons=max(1, len(rows) * (len(rows) - 1)))
    first = looks_for(rules)[0].rounds
    lasting = [row for row in rows if len(row.figures.counted) >= first]
    found = []
    for row in rows:
        before = lasting[: lasting.index(row)] if row in lasting else []
        duels = {
            other.cell.cell_key: compare(_rounds(other, row, canaries, source), rules)
            for other in before
        }
        decided = {key: duel for key, duel in duels.items() if duel.look is not None}
        found.append(replace(row, duels=decided))
    return found


def _rounds(
    baseline: Row, candidate: Row, canaries: Sequence[ResultRecord], source: _Source
) -> list[PairedRound]:
    runtimes = {row.cell.run.runtime.name for row in (baseline, candidate)}
    return pair_rounds(
        _same_environment(source.of(baseline.cell), baseline),
        _same_environment(source.of(candidate.cell), candidate),
        [c for c in canaries if c.result.run.runtime.name in runtimes],
    )


def _same_environment(records: Iterable[ResultRecord], row: Row) -> list[ResultRecord]:
    """What is not VALID stays in: how often it happens is part of the judgement."""
    left_out = {r.attempt_id for r in row.figures.elsewhere}
    return [r for r in records if r.attempt_id not in left_out]


def _canary_row(cell: CellRecord, source: _Source) -> CanaryRow:
    records = source.of(cell)
    figures = cell_figures(records)
    device = source.data.devices.get(cell.device_id)
    p50s = [r.result.latency.p50_ns for r in figures.counted if r.result.latency]
    return CanaryRow(
        cell=cell,
        device=device.name if device else cell.device_id,
        device_class=_class_of(device),
        runtime=runtime_label(cell.run.runtime),
        figures=figures,
        shift=canary_shift(p50s),
        valid=len(figures.counted),
        total=len(records),
    )


def _class_of(device: DeviceRecord | None) -> str:
    return device.facts.device_class if device and device.facts else ""
