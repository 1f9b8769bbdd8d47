"""How ``assay-agent bench`` shows what it measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from assay.core.jsonable import jsonable
from assay.core.listing import print_rows
from assay.core.model import RunSpec

_P50 = "p50 (95 % interval)"
_TABLE = ("model", "runtime", _P50, "p99", "n", "peak memory", "verdict", "reasons")
_FIELDS = (
    "model",
    "runtime",
    "p50_ns",
    "p50_low_ns",
    "p50_high_ns",
    "p90_ns",
    "p99_ns",
    "n",
    "load_ns",
    "first_inference_ns",
    "process_peak_bytes",
    "infer_peak_bytes",
    "verdict",
    "reasons",
)


def row_of(model: Path, run: RunSpec, measured: Any) -> dict[str, Any]:
    """One model's outcome: flat figures first, everything else as it is under ``result``."""
    parts = (measured.latency, measured.cold, measured.memory)
    flat = {
        name: getattr(part, name)
        for part in parts
        if part is not None
        for name in _FIELDS
        if hasattr(part, name)
    }
    result = jsonable(replace(measured, trace_path=None))
    version = measured.provenance.runtime_version
    return {
        "model": model.name,
        "runtime": f"{run.runtime.name} {version}".strip(),
        **{name: flat.get(name) for name in _FIELDS[2:-2]},
        "verdict": measured.verdict.kind.value,
        "reasons": [reason.code for reason in measured.verdict.reasons],
        "details": [f"{one.code}: {one.detail}" for one in measured.verdict.reasons],
        "result": result,
    }


def print_outcomes(rows: list[dict[str, Any]], output_format: str) -> None:
    """Prints them; a table is followed by what each reason saw."""
    if output_format != "table":
        print_rows(rows, _FIELDS, output_format)
        return
    print_rows([_shown(row) for row in rows], _TABLE, "table")
    for row in rows:
        for detail in row["details"]:
            click.echo(f"{row['model']}: {detail}")


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    interval = None
    if row["p50_ns"] is not None:
        low, high = _us(row["p50_low_ns"]), _us(row["p50_high_ns"])
        interval = f"{_us(row['p50_ns'])} [{low}, {high}] µs"
    peak = row["process_peak_bytes"]
    return {
        **row,
        _P50: interval,
        "p99": None if row["p99_ns"] is None else f"{_us(row['p99_ns'])} µs",
        "peak memory": None if peak is None else f"{peak / 2**20:.1f} MiB",
    }


def _us(nanoseconds: float) -> str:
    """Four significant digits, never in powers of ten."""
    value = nanoseconds / 1000
    digits = 0 if value >= 1000 else 1 if value >= 100 else 2 if value >= 10 else 3
    return f"{value:,.{digits}f}"
