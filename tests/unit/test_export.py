"""Exports: every result, in base units, whole or not at all."""

from __future__ import annotations

import csv
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from assay.controller.comparing.sweep_data import SweepData
from assay.controller.exporting.export import SCHEMA, export_results, json_result
from assay.controller.exporting.row import COLUMNS, flat_row
from assay.core.cas import ContentStore
from assay.core.errors import UsageError
from assay.core.model import Latency, MemorySplit
from tests.conftest import REPOSITORY
from tests.factories import (
    SHAPES,
    make_cell,
    make_energy,
    make_failure,
    make_latency,
    make_result,
    make_sweep,
    make_trace,
    make_variant,
    store_trace,
)


@pytest.fixture
def blobs(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path / "artifacts")


@pytest.fixture
def data(tmp_path: Path, blobs: ContentStore) -> SweepData:
    return make_sweep(shapes=SHAPES[2:4], rounds=2, blobs=blobs, scratch=tmp_path)


def exported(data: SweepData, file_format: str, path: Path, **options: Any) -> int:
    return export_results(data.results, data.variants, file_format, path, **options)


def test_json_holds_every_result_with_its_provenance_and_trace(
    data: SweepData, tmp_path: Path
) -> None:
    assert exported(data, "json", tmp_path / "r.json") == 0
    document = json.loads((tmp_path / "r.json").read_text())
    assert document["schema"] == SCHEMA
    assert len(document["results"]) == len(data.results)
    first, record = document["results"][0], data.results[0]
    assert first["attempt_id"] == record.attempt_id
    assert first["result"]["verdict"]["kind"] == record.result.verdict.kind.value
    assert first["result"]["provenance"]["device"]["cpu"]["model"] == "Cortex-A76"
    assert first["result"]["energy"] == {"absent": "no power sensor in /sys/class/hwmon"}
    traced = [r for r in document["results"] if r["result"]["trace"]]
    assert all(r["result"]["trace"]["digest"].startswith("sha256:") for r in traced)
    assert traced and "samples" not in traced[0]


def test_json_with_samples_holds_the_arrays(
    data: SweepData, blobs: ContentStore, tmp_path: Path
) -> None:
    assert exported(data, "json", tmp_path / "r.json", samples_from=blobs) == 0
    document = json.loads((tmp_path / "r.json").read_text())
    traced = [r for r in document["results"] if r["result"]["trace"]]
    assert {len(r["samples"]["latency_ns"]) for r in traced} == {1600}
    assert set(traced[0]["samples"]["series"]) == {"thermal/cpu-thermal", "cpufreq/policy0"}


def test_parquet_has_typed_columns_and_the_samples_on_request(
    data: SweepData, blobs: ContentStore, tmp_path: Path
) -> None:
    exported(data, "parquet", tmp_path / "plain.parquet")
    plain = pq.read_table(tmp_path / "plain.parquet")
    assert plain.column_names == list(COLUMNS)
    assert str(plain.schema.field("p50_seconds").type) == "double"
    assert plain.schema.metadata[b"assay.schema"] == SCHEMA.encode()
    exported(data, "parquet", tmp_path / "full.parquet", samples_from=blobs)
    rows = pq.read_table(tmp_path / "full.parquet").to_pylist()
    assert len(rows) == len(data.results)
    lengths = {len(row["latency_ns"]) for row in rows if row["latency_ns"] is not None}
    assert lengths == {1600}


def test_csv_and_parquet_agree_with_the_records(data: SweepData, tmp_path: Path) -> None:
    exported(data, "csv", tmp_path / "r.csv")
    exported(data, "parquet", tmp_path / "r.parquet")
    with (tmp_path / "r.csv").open(newline="") as file:
        from_csv = list(csv.DictReader(file))
    from_parquet = pq.read_table(tmp_path / "r.parquet").to_pylist()
    for text, typed, record in zip(from_csv, from_parquet, data.results, strict=True):
        latency = record.result.latency
        wanted = latency.p50_ns / 1e9 if latency else None
        assert typed["p50_seconds"] == wanted
        assert text["p50_seconds"] == ("" if wanted is None else repr(wanted))
        assert text["variant"] == typed["variant"] == record.result.run.variant_name


def test_samples_in_csv_are_refused(data: SweepData, blobs: ContentStore, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="use parquet or json"):
        exported(data, "csv", tmp_path / "r.csv", samples_from=blobs)
    assert list(tmp_path.glob("r.csv*")) == []


def test_missing_and_damaged_traces_are_counted_and_left_out(
    data: SweepData, blobs: ContentStore, tmp_path: Path
) -> None:
    traced = [r for r in data.results if r.result.trace]
    first, second = (r.result.trace.digest for r in traced[:2] if r.result.trace)
    blobs.remove(first)
    blobs.path(second).write_bytes(b"not a trace")
    assert exported(data, "json", tmp_path / "r.json", samples_from=blobs) == 2
    document = json.loads((tmp_path / "r.json").read_text())
    assert sum("samples" in r for r in document["results"]) == len(traced) - 2


class FailingStore(ContentStore):
    """Its disk is gone."""

    def path(self, digest: str) -> Path:
        raise OSError(f"input/output error at {digest}")


@pytest.mark.parametrize("file_format", ["json", "parquet"])
def test_a_failed_export_leaves_the_former_file(
    data: SweepData, tmp_path: Path, file_format: str
) -> None:
    path = tmp_path / "r"
    path.write_text("former")
    with pytest.raises(OSError, match="input/output"):
        exported(data, file_format, path, samples_from=FailingStore(tmp_path / "gone"))
    assert path.read_text() == "former"
    assert not (tmp_path / "r.part").exists()


def test_a_number_that_json_cannot_hold_becomes_null(tmp_path: Path) -> None:
    record = make_result(latency=make_latency(cv=float("nan"), mean_ns=float("inf")))
    export_results([record], {}, "json", tmp_path / "r.json")
    (only,) = json.loads((tmp_path / "r.json").read_text())["results"]
    assert only["result"]["latency"]["cv"] is None
    assert only["result"]["latency"]["mean_ns"] is None


def test_a_row_has_every_column_and_no_other() -> None:
    variant = make_variant()
    cell = make_cell(variant)
    for record in (make_result(cell, energy=make_energy()), make_failure(cell)):
        assert list(flat_row(record, {variant.variant_id: variant})) == list(COLUMNS)


def test_a_row_is_in_base_units() -> None:
    variant = make_variant()
    record = make_result(make_cell(variant), p50_ns=1.5e6, energy=make_energy(0.004))
    row = flat_row(record, {variant.variant_id: variant})
    assert (row["p50_seconds"], row["duration_seconds"]) == (0.0015, 2.0)
    assert (row["macs"], row["size_bytes"]) == (12_530_000, 312_400)
    assert row["energy_u2_joules"] == pytest.approx(2 * 0.004 * 0.012)
    assert (row["p999_seconds"], row["energy_absent"]) == (None, None)
    assert row["process_peak_bytes"] == 53_000_000 + 3 * 312_400


def test_every_field_of_latency_and_memory_has_a_column() -> None:
    names = {f.name.replace("_ns", "_seconds") for f in fields(Latency)}
    renamed = {
        "n": "samples",
        "cv": "cv_ratio",
        "outlier_time_share": "outlier_time_ratio",
    }
    left_out = {"early_stopping_seconds"}
    assert {renamed.get(n, n) for n in names} - left_out <= COLUMNS.keys()
    assert {f.name for f in fields(MemorySplit)} - {"absent_reason"} <= COLUMNS.keys()


def test_failures_and_reasons_are_told(data: SweepData) -> None:
    rows = [flat_row(r, data.variants) for r in data.results]
    failed = [row for row in rows if row["failure"]]
    assert failed and failed[0]["failure"] == "runtime_rejected"
    assert failed[0]["p50_seconds"] is None
    assert json_result(data.results[0])["superseded"] is False


def test_a_reservoirs_places_are_exported(blobs: ContentStore, tmp_path: Path) -> None:
    trace = make_trace(1e6, n=100, with_series=False)
    trace = replace(trace, index=trace.latency_ns * 0 + 5)
    record = make_result(trace=store_trace(blobs, tmp_path, trace))
    export_results([record], {}, "json", tmp_path / "r.json", samples_from=blobs)
    (only,) = json.loads((tmp_path / "r.json").read_text())["results"]
    assert only["samples"]["index"] == [5] * 100


def test_the_reference_page_names_the_schema_and_every_column() -> None:
    page = (REPOSITORY / "docs/reference/result-format.md").read_text()
    assert SCHEMA in page
    assert not [name for name in COLUMNS if f"`{name}`" not in page]
