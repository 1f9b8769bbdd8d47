"""Results as files for other programs: CSV, Parquet, and JSON with a versioned schema.

docs/reference/result-format.md describes both. One row (or object) is one result, whatever its
verdict: choosing is the reader's. Base units, nothing rounded.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from assay.controller.exporting.mlperf import mlperf_summaries
from assay.controller.exporting.row import COLUMNS, flat_row
from assay.controller.records import ResultRecord, VariantRecord
from assay.core.cas import ContentStore
from assay.core.errors import BadMessage, NotFound, UsageError
from assay.core.jsonable import jsonable
from assay.core.model import Result
from assay.core.trace import Trace, read_trace

SCHEMA = "assay.results/1"
FORMATS = ("csv", "parquet", "json", "mlperf")


def export_results(
    records: Sequence[ResultRecord],
    variants: Mapping[str, VariantRecord],
    file_format: str,
    path: Path,
    *,
    samples_from: ContentStore | None = None,
) -> int:
    """Writes ``records`` to ``path``, whole or not at all; returns how many traces were missing.

    Makes no directory: where the one it was to write to is gone, so is who asked for the file.

    With ``samples_from`` the raw samples stand in the file (JSON: every array of the trace;
    Parquet: ``latency_ns``), read one trace at a time. Raises :class:`UsageError` for samples in
    CSV, which has no place for them.
    """
    write = _WRITERS[file_format]
    if samples_from is not None and file_format in ("csv", "mlperf"):
        name = {"csv": "CSV", "mlperf": "a summary"}[file_format]
        raise UsageError(f"--samples: {name} has no place for raw samples; use parquet or json")
    traces = _Traces(samples_from)
    partial = path.with_name(path.name + ".part")
    try:
        write(records, variants, partial, traces)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return traces.missing


def write_json(
    records: Iterable[ResultRecord], out: IO[str], trace_of: Callable[[Result], Trace | None]
) -> None:
    """The JSON document, one result at a time so that samples never pile up in memory."""
    out.write(f'{{"schema": {json.dumps(SCHEMA)}, "results": [')
    for number, record in enumerate(records):
        out.write("," if number else "")
        out.write("\n")
        json.dump(json_result(record, trace_of(record.result)), out, allow_nan=False)
    out.write("\n]}\n")


def json_result(record: ResultRecord, trace: Trace | None = None) -> dict[str, Any]:
    """One result as JSON values: the record, and the arrays of its trace where one is given."""
    found: dict[str, Any] = _finite(jsonable(record))
    if trace is not None:
        found["samples"] = _trace_values(trace)
    return found


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _Traces:
    """Traces by result, where they are wanted; counts those that could not be had."""

    def __init__(self, blobs: ContentStore | None) -> None:
        self._blobs = blobs
        self.missing = 0

    @property
    def wanted(self) -> bool:
        return self._blobs is not None

    def of(self, result: Result) -> Trace | None:
        if self._blobs is None or result.trace is None:
            return None
        try:
            return read_trace(self._blobs.path(result.trace.digest))
        except (BadMessage, NotFound):
            self.missing += 1
            return None


def _write_csv(
    records: Sequence[ResultRecord],
    variants: Mapping[str, VariantRecord],
    path: Path,
    _traces: _Traces,
) -> None:
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, list(COLUMNS), lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat_row(record, variants) for record in records)


def _write_parquet(
    records: Sequence[ResultRecord],
    variants: Mapping[str, VariantRecord],
    path: Path,
    traces: _Traces,
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"string": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
    fields = [pa.field(name, types[kind]) for name, kind in COLUMNS.items()]
    if traces.wanted:
        fields.append(pa.field("latency_ns", pa.list_(pa.int64())))
    schema = pa.schema(fields, metadata={"assay.schema": SCHEMA})
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for part in _chunks(records, 20 if traces.wanted else 1000):
            rows = [flat_row(record, variants) for record in part]
            for row, record in zip(rows, part, strict=True):
                trace = traces.of(record.result)
                if traces.wanted:
                    row["latency_ns"] = None if trace is None else trace.latency_ns
            writer.write_table(pa.Table.from_pylist(rows, schema))


def _write_json(
    records: Sequence[ResultRecord],
    _variants: Mapping[str, VariantRecord],
    path: Path,
    traces: _Traces,
) -> None:
    with path.open("w", encoding="utf-8") as out:
        write_json(records, out, traces.of)


def _write_mlperf(
    records: Sequence[ResultRecord],
    _variants: Mapping[str, VariantRecord],
    path: Path,
    _traces: _Traces,
) -> None:
    with path.open("w", encoding="utf-8") as out:
        out.write("\n".join(mlperf_summaries(records)))


_Writer = Callable[[Sequence[ResultRecord], Mapping[str, VariantRecord], Path, _Traces], None]
_WRITERS: dict[str, _Writer] = {
    "csv": _write_csv,
    "parquet": _write_parquet,
    "json": _write_json,
    "mlperf": _write_mlperf,
}


def _chunks(records: Sequence[ResultRecord], size: int) -> Iterator[Sequence[ResultRecord]]:
    for start in range(0, len(records), size):
        yield records[start : start + size]


def _trace_values(trace: Trace) -> dict[str, Any]:
    found: dict[str, Any] = {"latency_ns": trace.latency_ns.tolist()}
    for name in ("index", "block_start_ns", "block_queries", "warmup_median_ns", "predictions"):
        array = getattr(trace, name)
        if array is not None:
            found[name] = array.tolist()
    if trace.histogram is not None:
        found["histogram"] = {
            "edges_ns": trace.histogram.edges_ns.tolist(),
            "counts": trace.histogram.counts.tolist(),
        }
    found["series"] = {
        name: {"t_ns": series.t_ns.tolist(), "value": series.value.tolist()}
        for name, series in trace.series.items()
    }
    return found
