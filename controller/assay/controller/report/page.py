"""Puts the report together: values in, one HTML document out."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from assay.controller.comparing.findings import estimate_text, sentences
from assay.controller.comparing.numbers import ratio, size
from assay.controller.comparing.pareto import standings
from assay.controller.comparing.reasons import reason
from assay.controller.comparing.rows import Row, RowStatus, Section, Summary
from assay.controller.comparing.sweep_data import SweepData
from assay.controller.comparing.wording import Sentence, row_name
from assay.controller.records import ResultRecord
from assay.controller.report.data_block import data_block, script_safe
from assay.controller.report.detail_view import panels, reasons_of, variant_views
from assay.controller.report.evidence import Evidence
from assay.controller.report.reproduce import sweep_toml
from assay.controller.report.scatter import legend_mark, runtimes_of, scatter
from assay.controller.report.table_view import BADGES, table_view
from assay.core import digest
from assay.core.comparing.compare import LOOKS, MIN_RESTARTS, Rules
from assay.core.model import VerdictKind
from assay.core.version import __version__


@dataclass(frozen=True, slots=True)
class KeyFigure:
    """One of the few numbers on top."""

    label: str
    value: str
    note: str


@dataclass(frozen=True, slots=True)
class SpoiltView:
    """A result that is not VALID."""

    cell: str
    round_number: int
    badge: tuple[str, str]
    verdict: str
    reasons: tuple[str, ...]
    cure: str


def render(summary: Summary, data: SweepData, evidence: Evidence, generated_unix_s: int) -> str:
    """The whole document; equal inputs give equal text."""
    style, script = _asset("style.css"), _asset("page.js")
    environment = Environment(
        loader=FunctionLoader(_asset),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    by_cell: dict[str, list[ResultRecord]] = {}
    for record in data.results:
        by_cell.setdefault(record.result.run.cell_key, []).append(record)
    accuracy = dict(evidence.accuracy)
    return environment.get_template("report.html").render(
        name=summary.name,
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
        data=Markup(script_safe(data_block(summary, data.sweep.sweep_id, generated_unix_s))),
        version=__version__,
        generated=_when(generated_unix_s),
        facts=_facts(summary, data),
        key_figures=_key_figures(summary),
        sentences=[
            _capitalised(s, {row.variant for row in summary.rows}) for s in sentences(summary)
        ],
        charts=[_chart(s, summary) for s in summary.sections],
        tables=[table_view(s, accuracy, _title(s, summary)) for s in summary.sections],
        panels=[(_title(s, summary), panels(s, evidence)) for s in summary.sections],
        canaries=summary.canaries,
        variants=variant_views(summary, data.variants, by_cell, evidence),
        spoilt=_spoilt(data),
        reasons=[(r, reason(r.code)) for r in summary.reasons],
        unreadable=evidence.unreadable,
        method=_method(summary, data),
        toml=sweep_toml(data.sweep.spec_json),
        inputs=_inputs(data),
    )


def _asset(name: str) -> str:
    return (resources.files("assay.controller.report") / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Nothing is loaded from anywhere, and only the two known texts are styles or scripts."""
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _capitalised(sentence: Sentence, names: set[str]) -> Sentence:
    """Begins with a capital, unless that would change the name of a variant."""
    text = sentence.text
    if text.split(" ")[0].rstrip(",") in names:
        return sentence
    return replace(sentence, text=text[:1].upper() + text[1:])


def _when(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%-d %B %Y, %H:%M UTC")


def _title(section: Section, summary: Summary) -> str:
    if len(summary.sections) == 1:
        return ""
    title = f"{section.device}, {section.scenario.replace('_', ' ')}"
    return title + (f" ({'; '.join(section.differs)})" if section.differs else "")


def _facts(summary: Summary, data: SweepData) -> list[tuple[str, str]]:
    devices = {cell.device_id: data.devices.get(cell.device_id) for cell in data.cells}
    boards = []
    for device_id, device in devices.items():
        board = f" ({device.facts.board})" if device and device.facts else ""
        boards.append((device.name if device else device_id) + board)
    rows = summary.rows
    runtimes = sorted({row.runtime for row in rows})
    profiles = sorted({row.cell.run.profile.name for row in rows})
    times = [r.recorded_ns for r in data.results]
    facts = [
        ("Variants", str(len({row.cell.run.variant_id for row in rows}))),
        ("Runtimes", ", ".join(runtimes)),
        ("Devices" if len(boards) > 1 else "Device", ", ".join(boards)),
        ("Dataset", ", ".join(sorted({r.cell.run.inputs.dataset for r in rows}))),
        ("Rounds", f"{data.sweep.rounds}, profile {', '.join(profiles)}"),
    ]
    if times:
        facts.append(("Measured", _when(max(times) / 1e9)))
    return facts


def _key_figures(summary: Summary) -> list[KeyFigure]:
    """Of the first section, which holds the baseline; empty where nothing counts."""
    figures = [
        KeyFigure(
            "Results VALID",
            f"{summary.valid} of {summary.total}",
            f"{summary.suspect} suspect, {summary.invalid} invalid",
        )
    ]
    if not summary.sections:
        return figures
    rows = [r for r in summary.sections[0].rows if r.counts]
    timed = [(r, r.figures.p50) for r in rows if r.figures.p50]
    if timed:
        row, p50 = min(timed, key=lambda pair: pair[1].value if pair[1] else 0)
        if p50 is not None:
            value = estimate_text(p50).partition(" [")[0].partition(" (")[0]
            figures.append(KeyFigure("Lowest p50", value, _with_ratio(row, row.latency_ratio)))
        least = min(rows, key=lambda r: r.size_bytes)
        note = f"{least.variant} ({least.format})"
        figures.append(
            KeyFigure("Smallest file", size(least.size_bytes), _noted(note, least.size_ratio))
        )
    rated = [(r, r.figures.quality) for r in rows if r.figures.quality]
    if rated:
        row, quality = max(rated, key=lambda pair: pair[1].top1 if pair[1] else 0)
        if quality is not None:
            places = 2 if quality.n >= 10_000 else 1
            value = f"{100 * quality.top1:.{places}f} %"
            figures.append(KeyFigure("Highest accuracy", value, row_name(row)))
    return figures


def _with_ratio(row: Row, value: float | None) -> str:
    return _noted(row_name(row), value)


def _noted(note: str, value: float | None) -> str:
    return f"{note}, {ratio(value)} baseline" if value is not None else note


def _chart(section: Section, summary: Summary) -> dict[str, Any]:
    drawing = scatter(section)
    names = runtimes_of(section)
    unrated = [row_name(r) for r in section.rows if not (r.figures.p50 and r.figures.quality)]
    return {
        "title": _title(section, summary),
        "svg": Markup(drawing) if drawing else None,
        "legend": [(Markup(legend_mark(i)), name) for i, name in enumerate(names)],
        "has_front": bool(drawing and standings(section.rows)),
        "any_out": any(not r.counts and r.figures.p50 for r in section.rows),
        "missing": unrated,
    }


def _spoilt(data: SweepData) -> list[SpoiltView]:
    names = {
        c.cell_key: f"{c.run.variant_name} in {c.run.runtime.name}"
        + (" (canary)" if c.run.canary else "")
        for c in data.cells
    }
    found = []
    for record in data.results:
        result = record.result
        if result.verdict.kind is VerdictKind.VALID:
            continue
        codes = [r.code for r in result.verdict.reasons]
        codes += [result.failure.code] if result.failure else []
        failed = result.failure is not None and result.latency is None
        status = RowStatus.FAILED if failed else RowStatus[result.verdict.kind.name]
        found.append(
            SpoiltView(
                names.get(result.run.cell_key, result.run.variant_name),
                result.round_index + 1,
                BADGES[status],
                status.value,
                tuple(reasons_of(result)),
                "; ".join(dict.fromkeys(reason(code).cure for code in codes)),
            )
        )
    return sorted(found, key=lambda s: (s.cell, s.round_number))


def _method(summary: Summary, data: SweepData) -> dict[str, Any]:
    candidates = max(
        (len([r for r in s.rows if r.counts]) - 1 for s in summary.sections), default=0
    )
    return {
        "rounds": data.sweep.rounds,
        "seed": data.sweep.seed,
        "min_restarts": MIN_RESTARTS,
        "looks": ", ".join(str(look.rounds) for look in LOOKS),
        "comparisons": max(1, candidates),
        "margin": f"{100 * Rules().margin:g} %",
        "fidelities": sorted(
            {r.result.latency.fidelity.value for r in data.results if r.result.latency}
        ),
        "isolations": sorted(
            {r.result.conditions.isolation.value for r in data.results if r.result.conditions}
        ),
    }


def _inputs(data: SweepData) -> list[tuple[str, str]]:
    """What the sweep was made from, by digest."""
    found: list[tuple[str, str]] = []
    dataset = data.dataset
    if dataset is not None:
        found.append((f"dataset {dataset.name}", dataset.source))
        found += [(f"split {name}", ref.digest) for name, ref in sorted(dataset.splits.items())]
    artifacts: Mapping[str, str] = {
        f"{c.run.variant_name} ({c.run.artifact.media_type.rpartition('/')[2]})": (
            c.run.artifact.digest
        )
        for c in data.cells
    }
    found += sorted(artifacts.items())
    versions: Sequence[str] = sorted(
        {f"{r.result.run.runtime.name} {r.result.provenance.runtime_version}" for r in data.results}
    )
    found.append(("runtimes", ", ".join(versions) or "none yet"))
    agents = sorted({r.result.provenance.harness_version for r in data.results})
    found.append(("assay", ", ".join(agents) or __version__))
    found.append(("sweep file", digest.of_json(json.loads(data.sweep.spec_json))))
    return found
