"""The documents behind the links: a sweep, its report, a single result with its distribution."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay.controller.comparing.findings import sentences
from assay.controller.comparing.numbers import duration, joules, percent, size
from assay.controller.comparing.reasons import reason
from assay.controller.comparing.summary import summarise
from assay.controller.comparing.sweep_data import load_sweep
from assay.controller.live.state import (
    Snapshot,
    environment,
    result_row,
    row_html,
    sweep_row,
)
from assay.controller.metrics.exposition_fleet import view_of
from assay.controller.records import ResultRecord
from assay.controller.report import build_report
from assay.controller.report.svg import element, text
from assay.controller.store.base import Store
from assay.core.cas import ContentStore
from assay.core.errors import BadMessage, NotFound
from assay.core.model import Absent, Energy, Result
from assay.core.trace import read_trace
from assay.core.version import __version__

_SHOWN_RESULTS = 300
_BINS = 60
_WIDTH, _HEIGHT, _FLOOR, _LEFT = 760.0, 240.0, 205.0, 10.0


@dataclass(slots=True)
class _Kept:
    mark: object
    body: bytes


class Pages:
    """Renders documents from a store. Thread-safe; a report is made again only after a change."""

    def __init__(self, store: Store, blobs: ContentStore) -> None:
        self._store = store
        self._blobs = blobs
        self._environment = environment()
        self._reports: dict[str, _Kept] = {}
        self._lock = threading.Lock()

    def index(self, snapshot: Snapshot) -> str:
        """Fleet and sweeps."""
        return self._render("index.html", snapshot=snapshot)

    def error(self, title: str, detail: str) -> str:
        """A page that says what is wrong."""
        return self._render("error.html", title=title, detail=detail)

    def sweep(self, name: str) -> str:
        """One sweep; :class:`NotFound` where there is none."""
        data = load_sweep(self._store, name)
        own = [r for r in data.results if r.result.sweep_id == data.sweep.sweep_id]
        row = sweep_row(view_of(data.sweep, data.rounds, own))
        newest = own[::-1][:_SHOWN_RESULTS]
        return self._render(
            "sweep.html",
            row=row,
            progress=row_html("sweep_row", row),
            sentences=sentences(summarise(data)),
            results=[row_html("result_row", result_row(r)) for r in newest],
            shown=len(newest),
            total=len(own),
        )

    def report(self, name: str) -> bytes:
        """The report as ``assay report -o`` writes it."""
        sweep = self._store.sweep(name)
        mark = (sweep, dict(self._store.counts()))
        with self._lock:
            kept = self._reports.get(sweep.sweep_id)
            if kept is None or kept.mark != mark:
                body = build_report(self._store, self._blobs, sweep.sweep_id).encode()
                self._reports = {**dict(list(self._reports.items())[-7:])}
                kept = self._reports[sweep.sweep_id] = _Kept(mark, body)
            return kept.body

    def result(self, attempt_id: str) -> str:
        """One result; :class:`NotFound` where there is none."""
        record = self._store.result(attempt_id)
        samples, why_not = self._samples(record)
        p50_ns = record.result.latency.p50_ns if record.result.latency else None
        return self._render(
            "result.html",
            row=result_row(record),
            sweep=self._store.sweep(record.result.sweep_id).name,
            reasons=_reasons(record.result),
            histogram=histogram(samples, p50_ns) if samples is not None else "",
            samples=0 if samples is None else len(samples),
            why_not=why_not,
            figures=_figures(record),
        )

    def _samples(self, record: ResultRecord) -> tuple[NDArray[np.int64] | None, str]:
        trace = record.result.trace
        if trace is None:
            return None, "This run left no raw samples."
        try:
            read = read_trace(self._blobs.path(trace.digest))
        except (NotFound, BadMessage) as error:
            return None, f"Its raw samples cannot be read: {error}"
        if len(read.latency_ns) == 0:
            return None, "Its trace holds a histogram only."
        return read.latency_ns, ""

    def _render(self, template: str, **values: object) -> str:
        return self._environment.get_template(template).render(version=__version__, **values)


def histogram(latency_ns: NDArray[np.int64], p50_ns: float | None) -> str:
    """Every sample in bars up to the 99.5th percentile; the last bar gathers the rest."""
    low = float(latency_ns.min())
    high = max(float(np.quantile(latency_ns, 0.995)), low + 1)
    edges = np.linspace(low, high, _BINS + 1)
    counts, _ = np.histogram(np.minimum(latency_ns, high), edges)
    step = (_WIDTH - 2 * _LEFT) / _BINS
    tallest = max(int(counts.max()), 1)
    bars = [
        element(
            "rect",
            class_="bar",
            x=round(_LEFT + i * step, 1),
            y=round(_FLOOR - (height := 180 * int(n) / tallest), 1),
            width=round(step - 1, 1),
            height=round(height, 1),
        )
        for i, n in enumerate(counts)
        if n
    ]
    return element(
        "svg",
        element("title", f"Latencies from {duration(low)} to {duration(float(latency_ns.max()))}"),
        *bars,
        element("path", class_="axis", d=f"M{_LEFT} {_FLOOR}H{_WIDTH - _LEFT}"),
        *_ticks(low, high),
        *_median(p50_ns, low, high),
        viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}",
        role="img",
    )


def _place(value: float, low: float, high: float) -> float:
    return round(_LEFT + (_WIDTH - 2 * _LEFT) * (value - low) / (high - low), 1)


def _ticks(low: float, high: float) -> list[str]:
    anchors = ("start", "middle", "middle", "middle", "end")
    values = [low + (high - low) * i / 4 for i in range(5)]
    return [
        text(duration(value), _place(value, low, high), 222, text_anchor=anchor)
        for value, anchor in zip(values, anchors, strict=True)
    ]


def _median(p50_ns: float | None, low: float, high: float) -> list[str]:
    if p50_ns is None or not low <= p50_ns <= high:
        return []
    x = _place(p50_ns, low, high)
    return [
        element("path", class_="mark", d=f"M{x} 14V{_FLOOR}"),
        text(f"p50 {duration(p50_ns)}", x + 4, 12),
    ]


def _reasons(result: Result) -> list[str]:
    found = [f"{reason(r.code).meaning} ({r.code}: {r.detail})" for r in result.verdict.reasons]
    if result.failure is not None:
        found.append(f"{result.failure.code}: {result.failure.message}")
    return found


def _figures(record: ResultRecord) -> Sequence[tuple[str, str]]:
    result = record.result
    found: list[tuple[str, str]] = []
    if result.latency is not None:
        for name in ("min", "p50", "p90", "p95", "p99", "p999", "max"):
            value = getattr(result.latency, f"{name}_ns")
            found.append((name, duration(value) if value is not None else "too few samples"))
    if result.memory is not None and result.memory.process_peak_bytes is not None:
        found.append(("peak memory", size(result.memory.process_peak_bytes)))
    if isinstance(result.energy, Energy):
        twice = joules(2 * result.energy.total_u_j)
        found.append(
            ("energy", f"{joules(result.energy.total_j)} ± {twice} ({result.energy.scope})")
        )
    elif isinstance(result.energy, Absent):
        found.append(("energy", f"not measured: {result.energy.reason}"))
    if result.quality is not None:
        found.append(("accuracy", percent(result.quality.top1, result.quality.n)))
    conditions = result.conditions
    if conditions is not None and conditions.temperature_max_c is not None:
        found.append(("highest temperature", f"{conditions.temperature_max_c:.1f} °C"))
    if conditions is not None and conditions.clock_median_hz is not None:
        found.append(("median clock", f"{conditions.clock_median_hz / 1e9:.2f} GHz"))
    found += [("round", str(result.round_index + 1)), ("attempt", record.attempt_id)]
    return found
