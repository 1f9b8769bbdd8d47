"""What the report shows from raw traces: distributions, one run over its time, paired accuracy.

Reads the content store; a trace that is gone or damaged leaves a gap that the report names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from assay.controller.comparing.figures import middle_run
from assay.controller.comparing.paired_accuracy import AccuracyComparison, compare_accuracy
from assay.controller.comparing.rows import Row, Section, Summary
from assay.controller.comparing.sweep_data import SweepData
from assay.controller.records import ResultRecord
from assay.controller.report.distribution import RunQuantiles
from assay.controller.report.timeline import LatencyBins, SideSeries
from assay.core.cas import ContentStore
from assay.core.errors import BadMessage, NotFound
from assay.core.model import VerdictKind
from assay.core.trace import Trace, read_trace

# Even steps on the drawing's scale: through the body, then through each further nine.
SHARES = tuple(
    float(share)
    for share in np.concatenate([np.linspace(0, 0.9, 28), 1 - np.geomspace(0.08, 1e-3, 24)])
)
_BINS = 80
_SIDE_POINTS = 120
_MOST_SIDES = 3


@dataclass(frozen=True, slots=True)
class Evidence:
    """By cell key; a cell without a readable trace is missing. ``unreadable`` counts traces."""

    distributions: Mapping[str, Sequence[RunQuantiles]] = field(default_factory=dict)
    timelines: Mapping[str, tuple[LatencyBins, Sequence[SideSeries]]] = field(default_factory=dict)
    accuracy: Mapping[str, AccuracyComparison] = field(default_factory=dict)
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class _Answers:
    """Which samples a cell got right, and what was true of each."""

    right: NDArray[np.bool_]
    truth: NDArray[np.int64]


def gather(summary: Summary, data: SweepData, blobs: ContentStore) -> Evidence:
    """Reads every trace once, one at a time."""
    by_cell: dict[str, list[ResultRecord]] = {}
    for record in data.results:
        by_cell.setdefault(record.result.run.cell_key, []).append(record)
    labels: dict[str, NDArray[np.int64] | None] = {}
    distributions: dict[str, list[RunQuantiles]] = {}
    timelines: dict[str, tuple[LatencyBins, Sequence[SideSeries]]] = {}
    accuracy: dict[str, AccuracyComparison] = {}
    unreadable = 0
    for section in summary.sections:
        answers: dict[str, _Answers] = {}
        for row in section.rows:
            key = row.cell.cell_key
            records = by_cell.get(key, [])
            middle = middle_run(row.figures.counted or records)
            # Each cell's own: variants of one sweep may have data sets of their own.
            fed = row.cell.run.inputs.artifact.digest
            if fed not in labels:
                labels[fed] = _labels(fed, blobs)
            for record, trace in _traces(records, blobs):
                if trace is None:
                    unreadable += 1
                    continue
                distributions.setdefault(key, []).append(_quantiles(record, trace, middle))
                if record is middle:
                    timelines[key] = _over_time(trace)
                truth, told = labels[fed], trace.predictions
                if truth is not None and told is not None and told.shape == truth.shape:
                    answers[key] = _Answers(np.equal(told, truth), truth)
        accuracy |= _compared(section, answers)
    return Evidence(distributions, timelines, accuracy, unreadable)


def _traces(
    records: Sequence[ResultRecord], blobs: ContentStore
) -> Iterator[tuple[ResultRecord, Trace | None]]:
    for record in records:
        ref = record.result.trace
        if ref is None or record.result.latency is None:
            continue
        try:
            trace = read_trace(blobs.path(ref.digest))
        except (BadMessage, NotFound):
            yield record, None
            continue
        yield record, trace if len(trace.latency_ns) else None


def _quantiles(record: ResultRecord, trace: Trace, middle: ResultRecord | None) -> RunQuantiles:
    values = np.quantile(trace.latency_ns, SHARES, method="inverted_cdf")
    valid = record.result.verdict.kind is VerdictKind.VALID
    return RunQuantiles(SHARES, [float(v) for v in values], valid, record is middle)


def _over_time(trace: Trace) -> tuple[LatencyBins, list[SideSeries]]:
    at_ns, start_ns = _times(trace)
    order = np.argsort(at_ns, kind="stable")
    parts = np.array_split(order, min(_BINS, len(order)))
    at = [float(np.mean(at_ns[p])) / 1e9 for p in parts]
    bands = [np.quantile(trace.latency_ns[p], (0.05, 0.5, 0.95)) for p in parts]
    bins = LatencyBins(at, *(tuple(float(b[i]) for b in bands) for i in range(3)))
    return bins, _sides(trace, start_ns, float(at_ns.max()))


def _times(trace: Trace) -> tuple[NDArray[np.float64], int | None]:
    """When each sample was taken, in ns since the first, and that moment on the sensors' clock."""
    latency = trace.latency_ns.astype(np.float64)
    starts, queries = trace.block_start_ns, trace.block_queries
    known = starts is not None and queries is not None and len(starts) > 0
    if known and starts is not None and queries is not None:
        first = int(starts[0])
        if trace.index is None and int(queries.sum()) == len(latency):
            blocks = np.split(latency, np.cumsum(queries)[:-1])
            parts = [
                float(start - first) + np.cumsum(block)
                for start, block in zip(starts, blocks, strict=True)
            ]
            return np.concatenate(parts), first
        if trace.index is not None:
            mean = float(latency.mean())
            return trace.index.astype(np.float64) * mean, first
    return np.cumsum(latency), None


def _sides(trace: Trace, start_ns: int | None, length_ns: float) -> list[SideSeries]:
    """Temperature and clocks during the timed part, the ones that move most first."""
    if start_ns is None:
        return []
    found: list[tuple[float, SideSeries]] = []
    for name, series in sorted(trace.series.items()):
        unit = _unit(name)
        since = series.t_ns - start_ns
        inside = (since >= 0) & (since <= length_ns)
        if not unit or inside.sum() < 2:
            continue
        scale = 1e-6 if unit == "MHz" else 1.0
        keep = np.linspace(0, inside.sum() - 1, min(_SIDE_POINTS, int(inside.sum()))).astype(int)
        t_s, value = since[inside][keep] / 1e9, series.value[inside][keep] * scale
        moved = float(np.ptp(value) / max(abs(float(np.mean(value))), 1e-12))
        side = SideSeries(name, unit, [float(t) for t in t_s], [float(v) for v in value])
        found.append((moved, side))
    found.sort(key=lambda pair: -pair[0])
    return [side for _, side in found[:_MOST_SIDES]]


def _unit(name: str) -> str:
    lowered = name.lower()
    if "temp" in lowered or "therm" in lowered:
        return "°C"
    if "freq" in lowered or "clock" in lowered:
        return "MHz"
    return "W" if "power" in lowered else ""


def _labels(digest: str, blobs: ContentStore) -> NDArray[np.int64] | None:
    """The true classes of a file of inputs; None where it is not held here or has none."""
    try:
        path = blobs.path(digest)
    except NotFound:
        return None
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["y"].astype(np.int64) if "y" in arrays.files else None


def _compared(section: Section, answers: Mapping[str, _Answers]) -> dict[str, AccuracyComparison]:
    """By cell; not where another data set was answered, which ``--force`` puts in one section."""
    reference: Row | None = section.reference
    base = answers.get(reference.cell.cell_key) if reference else None
    if reference is None or base is None:
        return {}
    return {
        key: compare_accuracy(base.right, one.right)
        for key, one in answers.items()
        if key != reference.cell.cell_key and np.array_equal(one.truth, base.truth)
    }
