"""Each variant in depth: its recipe, its files, every run of it and where those came from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from assay.controller.comparing.figures import MEMORY_PARTS, middle_run
from assay.controller.comparing.findings import accuracy_text
from assay.controller.comparing.numbers import (
    count,
    duration,
    grouped,
    hertz,
    joules,
    percent,
    ratio,
    size,
)
from assay.controller.comparing.rows import Row, RowStatus, Section, Summary
from assay.controller.records import ResultRecord, VariantRecord
from assay.controller.report.distribution import common_scale, small_ecdf
from assay.controller.report.evidence import Evidence
from assay.controller.report.scatter import runtimes_of
from assay.controller.report.table_view import BADGES, anchor_of
from assay.controller.report.timeline import timeline
from assay.core import digest
from assay.core.model import Absent, Energy, Result, VerdictKind

Pair = tuple[str, str]
# What of a variant's identity is worth a line, by its key there.
_IDENTITY = {
    "seed": "Seed",
    "train": "Trained on",
    "calibration": "Calibrated on",
    "tools": "Built with",
}


@dataclass(frozen=True, slots=True)
class RunView:
    """One run, a line of a table."""

    round_number: int
    badge: tuple[str, str]
    verdict: str
    p50: str
    inside: str
    p90: str
    p99: str
    samples: str
    spread: str
    temperature: str
    reasons: str


@dataclass(frozen=True, slots=True)
class CellView:
    """One cell of a variant."""

    title: str
    facts: tuple[Pair, ...]
    runs: tuple[RunView, ...]
    timeline: Markup
    provenance: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class VariantView:
    """One variant with all its cells."""

    anchor: str
    name: str
    model: str
    status: tuple[str, str]
    summary: str
    recipe: tuple[str, ...]
    facts: tuple[Pair, ...]
    cells: tuple[CellView, ...]


@dataclass(frozen=True, slots=True)
class PanelView:
    """One small ECDF."""

    name: str
    runtime: str
    note: str
    svg: Markup


def panels(section: Section, evidence: Evidence) -> list[PanelView]:
    """The distributions of a section, in the order of its rows."""
    names = runtimes_of(section)
    shown = [
        (row, row.figures.p50, evidence.distributions[row.cell.cell_key])
        for row in section.rows
        if row.cell.cell_key in evidence.distributions and row.figures.p50
    ]
    if not shown:
        return []
    across = common_scale([(p50.value, runs) for _, p50, runs in shown])
    return [
        PanelView(
            row.variant,
            row.runtime,
            f"p50 {duration(p50.value)}"
            + ("" if row.counts else f", {row.status.value}, not ranked"),
            Markup(
                small_ecdf(
                    f"{row.variant} in {row.runtime}",
                    p50.value,
                    runs,
                    across,
                    names.index(row.runtime),
                )
            ),
        )
        for row, p50, runs in shown
    ]


def variant_views(
    summary: Summary,
    variants: Mapping[str, VariantRecord],
    results: Mapping[str, Sequence[ResultRecord]],
    evidence: Evidence,
) -> list[VariantView]:
    """Every variant, in the order of the ranking."""
    grouped: dict[str, list[tuple[Section, Row]]] = {}
    for section in summary.sections:
        for row in section.rows:
            grouped.setdefault(row.cell.run.variant_id, []).append((section, row))
    return [
        _variant(variants.get(variant_id), members, results, evidence)
        for variant_id, members in grouped.items()
    ]


def _variant(
    record: VariantRecord | None,
    members: Sequence[tuple[Section, Row]],
    results: Mapping[str, Sequence[ResultRecord]],
    evidence: Evidence,
) -> VariantView:
    first = members[0][1]
    order = list(RowStatus)
    best = min((row.status for _, row in members), key=order.index)
    return VariantView(
        anchor=anchor_of(first),
        name=first.variant,
        model=first.model,
        status=BADGES[best],
        summary=record.notes.get("summary", "") if record else "",
        recipe=_recipe(record),
        facts=_variant_facts(record, [row for _, row in members]),
        cells=tuple(_cell(s, r, results.get(r.cell.cell_key, ()), evidence) for s, r in members),
    )


def _recipe(record: VariantRecord | None) -> tuple[str, ...]:
    steps = record.identity.get("pipeline") if record else None
    if not isinstance(steps, (list, tuple)):
        return ()
    return tuple(_plain(step) for step in steps)


def _plain(value: object) -> str:
    """A step as ``prune: macs_ratio 0.5, …``; anything else as JSON."""
    if not isinstance(value, Mapping):
        return value if isinstance(value, str) else json.dumps(value, default=str)
    named = {key: item for key, item in value.items() if key not in ("use", "version")}
    rest = ", ".join(f"{k} {v if isinstance(v, str) else json.dumps(v)}" for k, v in named.items())
    return ": ".join(part for part in (str(value.get("use", "")), rest) if part)


def _variant_facts(record: VariantRecord | None, rows: Sequence[Row]) -> tuple[Pair, ...]:
    found: list[Pair] = [("Variant", digest.short(rows[0].cell.run.variant_id))]
    for row in {row.format: row for row in rows}.values():
        found.append((f"{row.format} file", _file_text(row)))
    if record is None:
        return tuple(found)
    found.append(("Origin", f"{record.origin}, for {record.dataset}"))
    network = record.identity.get("network")
    about = {**(network if isinstance(network, Mapping) else {}), **record.identity}
    for key, label in _IDENTITY.items():
        if about.get(key) is not None:
            found.append((label, _short(about[key])))
    found += [
        (_label(key), text)
        for key, text in sorted(record.notes.items())
        if key not in ("summary", "tools")
    ]
    return tuple(found)


def _label(key: str) -> str:
    """``onnx.controller_top1`` as ``Controller top1, onnx``."""
    file, dot, what = key.rpartition(".")
    return what.replace("_", " ").capitalize() + (f", {file}" if dot else "")


def _file_text(row: Row) -> str:
    text = size(row.size_bytes)
    if row.cost:
        macs = f", {count(row.cost.macs)} MACs" if row.cost.macs is not None else ""
        text += f" ({size(row.cost.transfer_bytes)} on the wire), "
        text += f"{count(row.cost.parameters)} parameters{macs}"
    return f"{text}, {digest.short(row.cell.run.artifact.digest)}"


def _short(value: object) -> str:
    """Digests by their first digits, tables as ``name value, …`` without what is empty."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items() if item != "")
    if isinstance(value, str) and digest.is_digest(value):
        return digest.short(value)
    return _plain(value)


def _cell(
    section: Section, row: Row, results: Sequence[ResultRecord], evidence: Evidence
) -> CellView:
    drawn = evidence.timelines.get(row.cell.cell_key)
    name = f"{row.variant} in {row.runtime}"
    series = runtimes_of(section).index(row.runtime)
    newest = results[-1].result if results else None
    return CellView(
        title=f"{row.runtime} on {section.device}, {section.scenario}",
        facts=tuple(_cell_facts(row)),
        runs=tuple(_run(record.result) for record in results),
        timeline=Markup(timeline(name, *drawn, series) if drawn else ""),
        provenance=_provenance(newest) if newest else (),
    )


def _cell_facts(row: Row) -> list[Pair]:
    figures = row.figures
    found: list[Pair] = []
    if figures.quality is not None:
        quality = figures.quality
        top5 = f", top-5 {percent(quality.top5, quality.n)}" if quality.top5 is not None else ""
        found.append(
            ("Accuracy", f"{accuracy_text(quality)} top-1{top5} of {grouped(quality.n)} samples")
        )
    names = {
        "runtime_base": "runtime",
        "model_load": "+ model",
        "infer_peak": "+ inference",
        "process_peak": "process peak",
    }
    parts = [
        f"{names[part]} {size(figures.memory[part].value)}"
        for part in MEMORY_PARTS
        if part in figures.memory
    ]
    if parts:
        found.append(("Memory", ", ".join(parts)))
    found += _energy_facts(row)
    if figures.load_ns and figures.first_inference_ns:
        found.append(
            (
                "Cold start",
                f"load {duration(figures.load_ns.value)}, first inference "
                f"{duration(figures.first_inference_ns.value)}",
            )
        )
    return found


def _energy_facts(row: Row) -> list[Pair]:
    energy = row.figures.energy
    if isinstance(energy, Absent):
        return [("Energy", f"not measured: {energy.reason}")]
    found = [
        (
            "Energy",
            f"{joules(energy.total.value)} ± {joules(energy.u2_j)} an inference, "
            f"{joules(energy.dynamic.value)} of it above idle"
            + (", inconclusive" if energy.inconclusive else ""),
        )
    ]
    run = middle_run(row.figures.counted)
    if run is not None and isinstance(run.result.energy, Energy):
        read = run.result.energy
        found.append(
            (
                "Power",
                f"{read.active_w:.2f} W active, {read.idle_w:.2f} W idle; {read.source} "
                f"({read.scope}, {read.tier.value}), {grouped(read.distinct_readings)} readings",
            )
        )
    return found


def _run(result: Result) -> RunView:
    latency, conditions = result.latency, result.conditions
    kind = result.verdict.kind
    failed = result.failure is not None and latency is None
    status = RowStatus.FAILED if failed else RowStatus[kind.name]
    temperature = "–"
    if conditions and conditions.temperature_start_c is not None:
        temperature = f"{conditions.temperature_start_c:.0f}"
        if conditions.temperature_max_c is not None:
            temperature += f" → {conditions.temperature_max_c:.0f} °C"
    return RunView(
        round_number=result.round_index + 1,
        badge=BADGES[status],
        verdict=status.value,
        p50=duration(latency.p50_ns) if latency else "–",
        inside=f"{duration(latency.p50_low_ns)} – {duration(latency.p50_high_ns)}"
        if latency
        else "",
        p90=duration(latency.p90_ns) if latency and latency.p90_ns is not None else "–",
        p99=duration(latency.p99_ns) if latency and latency.p99_ns is not None else "–",
        samples=grouped(latency.n) if latency else "–",
        spread=f"{100 * latency.cv:.1f} %" if latency else "–",
        temperature=temperature,
        reasons="; ".join(reasons_of(result)),
    )


def reasons_of(result: Result) -> list[str]:
    """Why a result is not VALID, each with what was seen."""
    found = [f"{r.code}: {r.detail}" if r.detail else r.code for r in result.verdict.reasons]
    if result.failure is not None:
        found.append(f"{result.failure.code}: {result.failure.message}")
    if not found and result.verdict.kind is not VerdictKind.VALID:
        found.append("no reason given")
    return found


def _provenance(result: Result) -> tuple[Pair, ...]:
    where, conditions, latency = result.provenance, result.conditions, result.latency
    facts = where.device
    found: list[Pair] = [
        ("Board", f"{facts.board} ({facts.cpu.model}, {facts.cpu.architecture})"),
        ("System", f"{facts.os}, kernel {facts.kernel}, governor {facts.governor or 'unknown'}"),
        (
            "Software",
            f"{result.run.runtime.name} {where.runtime_version}, assay {where.harness_version}, "
            f"Python {facts.python_version}",
        ),
        (
            "Run",
            f"{_threads(result.run.runtime.threads)}, profile {result.run.profile.name}, "
            f"batch {result.run.scenario.samples_per_query}",
        ),
    ]
    if latency is not None:
        floor = f"harness floor {duration(latency.harness_floor_ns)}"
        if latency.binding_floor_ns is not None:
            floor += f", binding floor {duration(latency.binding_floor_ns)}"
            floor += f" ({percent(latency.binding_floor_ns / latency.p50_ns, 500)} of p50)"
        found.append(("Timing", f"{latency.fidelity.value}, {floor}"))
    if conditions is not None:
        cpus = ", ".join(map(str, conditions.measure_cpus)) or "any"
        text = f"{conditions.isolation.value}, CPU {cpus}, "
        text += f"warm-up {duration(conditions.warmup_ns)}, wall/CPU "
        text += ratio(conditions.wall_per_cpu)
        if conditions.clock_median_hz is not None:
            text += f", clock {hertz(conditions.clock_median_hz)}"
        found.append(("Conditions", text))
    if where.placement:
        found.append(("Placement", "; ".join(where.placement)))
    return tuple(found)


def _threads(n: int) -> str:
    return f"{n} thread{'' if n == 1 else 's'}"
