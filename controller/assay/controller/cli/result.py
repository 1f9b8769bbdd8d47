"""``assay result``: what was measured."""

from __future__ import annotations

import fnmatch
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from assay.controller.admin.base import Administration
from assay.controller.cli.office import with_office
from assay.controller.comparing.labels import runtime_label
from assay.controller.home import Home
from assay.controller.records import ResultRecord
from assay.controller.store import open_store
from assay.core.errors import Partial, UsageError
from assay.core.jsonable import jsonable
from assay.core.listing import format_option, print_rows
from assay.core.model import Absent

_COLUMNS = (
    "attempt",
    "variant",
    "runtime",
    "device",
    "round",
    "verdict",
    "p50_ms",
    "p99_ms",
    "accuracy",
    "peak_mb",
    "reasons",
)


@click.group()
def result() -> None:
    """What was measured."""


@result.command("list")
@click.argument("sweep", required=False)
@click.option("--variant", default="*", help="Only variants of this name; a shell pattern.")
@click.option("--device", default="*", help="Only devices of this name; a shell pattern.")
@click.option(
    "--verdict",
    type=click.Choice(["valid", "suspect", "invalid"]),
    help="Only results of this verdict.",
)
@click.option("--canaries", is_flag=True, help="Show the canaries' results as well.")
@format_option
@with_office
def list_command(
    office: Administration,
    sweep: str | None,
    variant: str,
    device: str,
    verdict: str | None,
    canaries: bool,
    output_format: str,
) -> None:
    """List results of SWEEP, or of every sweep, in the order they were recorded."""
    rows = [
        _row(record)
        for record in _listed(office, sweep)
        if fnmatch.fnmatchcase(record.result.run.variant_name, variant)
        and fnmatch.fnmatchcase(record.result.provenance.device_name, device)
        and verdict in (None, record.result.verdict.kind.value)
        and (canaries or not record.result.run.canary)
    ]
    print_rows(rows, _COLUMNS, output_format)


@result.command("show")
@click.argument("attempt")
@format_option
@with_office
def show_command(office: Administration, attempt: str, output_format: str) -> None:
    """Show everything about the result of ATTEMPT (an id, or the start of one)."""
    record = office.result(attempt)
    if output_format == "json":
        print_rows([jsonable(record)], (), output_format)
        return
    rows = [{"field": name, "value": text} for name, text in _flat("", jsonable(record))]
    print_rows(rows, ["field", "value"], output_format)


@result.command("export")
@click.argument("sweep", required=False)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["csv", "parquet", "json", "mlperf"]),
    default="csv",
    show_default=True,
    help="csv, parquet: one row a result; json: everything, with a versioned schema; mlperf: as "
    "LoadGen's summaries.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write; stdout where none is given (not for parquet).",
)
@click.option("--samples", is_flag=True, help="Put the raw samples in (json, parquet).")
@click.option("--superseded", is_flag=True, help="Also results of leases that had run out.")
@with_office
def export_command(
    office: Administration,
    sweep: str | None,
    file_format: str,
    output: Path | None,
    samples: bool,
    superseded: bool,
) -> None:
    """Write the results of SWEEP, or of every sweep, to a file for other programs.

    Exit status 3: the file is whole but for raw samples that the controller does not hold.
    """
    from assay.controller.admin.views import ExportOrder

    if output is None and file_format == "parquet":
        raise UsageError("--format parquet: name a file with -o; parquet is not for a terminal")
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
    order = ExportOrder(sweep or "", file_format, samples, superseded)
    with tempfile.TemporaryDirectory() as scratch:
        path = output or Path(scratch) / "results"
        made = office.export(order, path)
        if output is None:
            with path.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
                sys.stdout.buffer.flush()
        else:
            click.echo(f"wrote {made.results} results to {output}", err=True)
    if made.missing_traces:
        raise Partial(
            f"{made.missing_traces} traces are not held by the controller; their samples are left "
            "out"
        )


@result.command("mirror")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--every", "every_s", type=float, help="Go on, once every so many seconds.")
def mirror_command(file: Path, every_s: float | None) -> None:
    """Bring FILE, an SQLite database of raw results and views over them, up to date.

    For Grafana's SQLite data source and for whoever likes SQL; docs/watching.md names the views.
    """
    from assay.controller.exporting.mirror import write_mirror

    store = open_store(Home.default())
    while True:
        gained = write_mirror(store, file)
        if gained or every_s is None:
            click.echo(f"{file}: {gained} results more", err=True)
        if every_s is None:
            return
        time.sleep(every_s)


def _listed(office: Administration, sweep: str | None) -> Sequence[ResultRecord]:
    if sweep is not None:
        return office.results(sweep)
    found = [record for one in office.sweeps() for record in office.results(one.sweep_id)]
    return sorted(found, key=lambda record: record.recorded_ns)


def _row(record: ResultRecord) -> Mapping[str, Any]:
    found = record.result
    latency, memory, quality = found.latency, found.memory, found.quality
    codes = [reason.code for reason in found.verdict.reasons]
    codes += [found.failure.code] if found.failure else []
    peak = memory.process_peak_bytes if memory else None
    return {
        "attempt": record.attempt_id,
        "sweep_id": found.sweep_id,
        "variant": found.run.variant_name,
        "runtime": runtime_label(found.run.runtime),
        "device": found.provenance.device_name,
        "round": found.round_index,
        "verdict": found.verdict.kind.value.upper(),
        "p50_ms": _millis(latency.p50_ns if latency else None),
        "p99_ms": _millis(latency.p99_ns if latency else None),
        "accuracy": round(quality.top1, 6) if quality else None,
        "peak_mb": round(peak / 1e6, 1) if peak is not None else None,
        "energy_j": None if isinstance(found.energy, Absent) else found.energy.total_j,
        "reasons": list(dict.fromkeys(codes)),
    }


def _millis(ns: float | None) -> float | None:
    return None if ns is None else round(ns / 1e6, 6)


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    """``result.latency.p50_ns`` and the like, with short lists kept whole."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(f"{prefix}.{key}".lstrip("."), item)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for number, item in enumerate(value):
            yield from _flat(f"{prefix}[{number}]", item)
    elif value is not None:
        text = " ".join(str(item) for item in value) if isinstance(value, list) else str(value)
        yield prefix, text
