"""The report's numbers for machines: base units, unrounded, the same values as ``/metrics``."""

from __future__ import annotations

import json
from typing import Any

from assay.controller.comparing.figures import EnergyFigure, Estimate
from assay.controller.comparing.pareto import Standing, standings
from assay.controller.comparing.rows import CanaryRow, Row, Section, Summary

SCHEMA = "assay.report/1"
_NS = 1e9


def data_block(summary: Summary, sweep_id: str, generated_unix_s: int) -> dict[str, Any]:
    """Everything shown in tables, as JSON values; see docs/report.md."""
    return {
        "schema": SCHEMA,
        "sweep": {"id": sweep_id, "name": summary.name},
        "generated_unix_seconds": generated_unix_s,
        "results": {
            "total": summary.total,
            "valid": summary.valid,
            "suspect": summary.suspect,
            "invalid": summary.invalid,
            "reasons": {r.code: r.count for r in summary.reasons},
        },
        "sections": [_section(s) for s in summary.sections],
        "canaries": [_canary(c) for c in summary.canaries],
    }


def script_safe(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _section(section: Section) -> dict[str, Any]:
    reference, standing = section.reference, standings(section.rows)
    return {
        "device": section.device,
        "device_class": section.device_class,
        "scenario": section.scenario,
        "differs": list(section.differs),
        "baseline": reference.cell.cell_key if reference else None,
        "rows": [_row(row, standing.get(row.cell.cell_key)) for row in section.rows],
    }


def _row(row: Row, standing: Standing | None) -> dict[str, Any]:
    figures, energy = row.figures, row.figures.energy
    measured = isinstance(energy, EnergyFigure)
    return {
        "cell": row.cell.cell_key,
        "model": row.model,
        "variant": row.variant,
        "variant_id": row.cell.run.variant_id,
        "artifact": row.cell.run.artifact.digest,
        "format": row.format,
        "runtime": row.runtime,
        "size_bytes": row.size_bytes,
        "macs": row.macs,
        "parameters": row.cost.parameters if row.cost else None,
        "status": row.status.value,
        "valid_results": row.valid,
        "total_results": row.total,
        "reasons": {r.code: r.count for r in row.reasons},
        "ranked": row.counts,
        "rank": row.rank,
        "tied": row.tied,
        "pareto": standing.value if standing else None,
        "latency_seconds": {f"{q:g}": _estimate(e, _NS) for q, e in figures.latency.items()},
        "latency_ratio": row.latency_ratio,
        "size_ratio": row.size_ratio,
        "memory_bytes": {part: _estimate(e) for part, e in figures.memory.items()},
        "model_load_seconds": _estimate(figures.load_ns, _NS),
        "first_inference_seconds": _estimate(figures.first_inference_ns, _NS),
        "energy_joules": _estimate(energy.total) | {"u2": energy.u2_j, "tier": energy.tier}
        if measured and isinstance(energy, EnergyFigure)
        else {"absent": str(getattr(energy, "reason", ""))},
        "accuracy": None
        if figures.quality is None
        else {
            "dataset": figures.quality.dataset,
            "top1_ratio": figures.quality.top1,
            "samples": figures.quality.n,
        },
        "comparison": _comparison(row),
    }


def _estimate(figure: Estimate | None, per: float = 1.0) -> Any:
    if figure is None:
        return None
    return {
        "value": figure.value / per,
        "low": figure.low / per,
        "high": figure.high / per,
        "restarts": figure.restarts,
        "bounds": figure.spread.value,
    }


def _comparison(row: Row) -> dict[str, Any] | None:
    found = row.comparison
    if found is None:
        return None
    return {
        "statistic": found.statistic.value,
        "finding": found.finding.value,
        "codes": list(found.codes),
        "ln_effect": found.effect,
        "ln_low": found.low,
        "ln_high": found.high,
        "confidence": found.confidence,
        "rounds": found.rounds,
        "look": found.look,
    }


def _canary(canary: CanaryRow) -> dict[str, Any]:
    return {
        "device": canary.device,
        "runtime": canary.runtime,
        "p50_seconds": _estimate(canary.p50, _NS),
        "ln_shift": canary.shift,
        "valid_results": canary.valid,
        "total_results": canary.total,
    }
