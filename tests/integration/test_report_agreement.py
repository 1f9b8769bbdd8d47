"""One store, four views: report, /metrics, exports and terminal show the same numbers."""

from __future__ import annotations

import csv
import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from prometheus_client.parser import text_string_to_metric_families

from assay.controller.cli import assay
from assay.controller.home import Home
from assay.controller.metrics.exporter import start_exporter
from assay.controller.store.base import Store
from assay.core.cas import ContentStore
from assay.core.errors import NotFound, Partial, UsageError
from tests.factories import SHAPES
from tests.stored import stored_sweep

_SHAPES = (SHAPES[0], SHAPES[2], SHAPES[3], SHAPES[6], SHAPES[7])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def store(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = stored_sweep(home, tmp_path_factory.mktemp("scratch"), shapes=_SHAPES)
    yield store
    store.close()


@pytest.fixture
def run(home: Home, store: Store, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("ASSAY_HOME", str(home.root))

    def invoke(*arguments: str) -> Result:
        result = CliRunner().invoke(assay, arguments, standalone_mode=True)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


def report_rows(path: Path) -> list[dict[str, Any]]:
    found = re.search(
        r'<script type="application/json" id="assay-data">(.*?)</script>', path.read_text(), re.S
    )
    assert found
    return [row for section in json.loads(found[1])["sections"] for row in section["rows"]]


def scraped(home: Home) -> dict[tuple[str, str, str, str], float]:
    """(metric, variant, runtime, quantile or part) to value."""
    with start_exporter(home, port=0) as exporter:
        address = f"http://127.0.0.1:{exporter.port}/metrics"
        with urllib.request.urlopen(address, timeout=5) as answer:
            page = answer.read().decode()
    found = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            labels = sample.labels
            key = labels.get("quantile", labels.get("part", ""))
            found[sample.name, labels.get("variant", ""), labels.get("runtime", ""), key] = (
                sample.value
            )
    return found


def middle(values: list[float]) -> float:
    return sorted(values)[(len(values) - 1) // 2]


def test_report_metrics_and_exports_agree(run: Any, home: Home, tmp_path: Path) -> None:
    """The same p50, p99, bounds, memory, accuracy and size in all of them, to the last bit."""
    run("report", "demo", "-o", str(tmp_path / "demo.html"))
    run("result", "export", "demo", "--format", "json", "-o", str(tmp_path / "demo.json"))
    run("result", "export", "demo", "--format", "parquet", "-o", str(tmp_path / "demo.parquet"))
    rows = report_rows(tmp_path / "demo.html")
    metrics = scraped(home)
    exported = json.loads((tmp_path / "demo.json").read_text())["results"]
    flat = pq.read_table(tmp_path / "demo.parquet").to_pylist()
    ranked = [row for row in rows if row["ranked"]]
    assert len(ranked) >= 6
    for row in ranked:
        mine = [
            r["result"]
            for r in exported
            if r["result"]["run"]["cell_key"] == row["cell"]
            and r["result"]["verdict"]["kind"] == "valid"
        ]
        here = (row["variant"], row["runtime"])
        for quantile, field in (("0.5", "p50_ns"), ("0.99", "p99_ns")):
            values = [r["latency"][field] / 1e9 for r in mine]
            shown = row["latency_seconds"][quantile]
            assert shown["value"] == middle(values)
            assert (shown["low"], shown["high"]) == (min(values), max(values))
            assert metrics[("assay_latency_seconds", *here, quantile)] == shown["value"]
            assert metrics[("assay_latency_range_low_seconds", *here, quantile)] == shown["low"]
            assert metrics[("assay_latency_range_high_seconds", *here, quantile)] == shown["high"]
        columns = [
            r["p50_seconds"]
            for r in flat
            if r["cell_key"] == row["cell"] and r["verdict"] == "valid"
        ]
        assert middle(columns) == row["latency_seconds"]["0.5"]["value"]
        peak = middle([r["memory"]["process_peak_bytes"] for r in mine])
        assert row["memory_bytes"]["process_peak"]["value"] == peak
        assert metrics[("assay_memory_bytes", *here, "process_peak")] == peak
        accuracy = row["accuracy"]["top1_ratio"]
        assert metrics[("assay_accuracy_ratio", *here, "")] == accuracy
        assert accuracy in [r["quality"]["top1"] for r in mine if r["quality"]]
        assert metrics[("assay_artifact_size_bytes", *here, "")] == row["size_bytes"]
        assert metrics[("assay_latency_restarts", *here, "")] == len(mine)


def test_counts_of_verdicts_agree(run: Any, home: Home, tmp_path: Path) -> None:
    run("result", "export", "--format", "csv", "-o", str(tmp_path / "r.csv"))
    with (tmp_path / "r.csv").open(newline="") as file:
        verdicts = [row["verdict"] for row in csv.DictReader(file)]
    with start_exporter(home, port=0) as exporter:
        address = f"http://127.0.0.1:{exporter.port}/metrics"
        with urllib.request.urlopen(address, timeout=5) as answer:
            page = answer.read().decode()
    for verdict in ("valid", "suspect", "invalid"):
        assert f'assay_results_total{{verdict="{verdict}"}} {verdicts.count(verdict)}.0' in page
    assert {"valid", "suspect", "invalid"} <= set(verdicts)


def test_the_report_reads_the_traces_of_the_store(run: Any, tmp_path: Path) -> None:
    run("report", "demo", "-o", str(tmp_path / "r.html"))
    document = (tmp_path / "r.html").read_text()
    assert document.count('class="chart ecdf"') >= 7
    assert document.count('class="chart timeline"') >= 7
    assert "traces could not be read" not in document


def test_report_without_a_file_prints_the_table(run: Any) -> None:
    text = run("report", "demo").stdout
    assert "fp32 (baseline)" in text
    assert "are not VALID because" in text


def test_list_filters_and_formats(run: Any) -> None:
    listed = json.loads(run("result", "list", "demo", "--format", "json").stdout)
    assert len(listed) == 3 * 9
    assert {row["verdict"] for row in listed} == {"VALID", "SUSPECT", "INVALID"}
    valid = json.loads(
        run(
            "result", "list", "--verdict", "valid", "--variant", "int8-*", "--format", "json"
        ).stdout
    )
    assert {row["verdict"] for row in valid} == {"VALID"}
    assert {row["variant"] for row in valid} == {"int8-static", "int8-dynamic"}
    both = run("result", "list", "--canaries", "--format", "csv").stdout
    assert both.startswith("attempt,variant,runtime,device,round,verdict,p50_ms")
    assert both.count("\n") == 1 + 3 * 11
    assert "student" in run("result", "list").stdout


def test_show_tells_everything_of_one_result(run: Any) -> None:
    attempt = json.loads(run("result", "list", "--format", "json").stdout)[0]["attempt"]
    text = run("result", "show", attempt).stdout
    assert "result.provenance.device.board" in text
    assert "Raspberry Pi 5" in text
    (whole,) = json.loads(run("result", "show", attempt, "--format", "json").stdout)
    assert whole["attempt_id"] == attempt
    with pytest.raises(UsageError, match="could be any of"):
        run("result", "show", attempt[:4])
    with pytest.raises(NotFound):
        run("result", "show", "nothing")


def test_export_goes_to_stdout_without_a_file(run: Any) -> None:
    assert json.loads(run("result", "export", "--format", "json").stdout)["schema"]
    with pytest.raises(UsageError, match="name a file with -o"):
        run("result", "export", "--format", "parquet")


def test_unknown_sweeps_are_not_found(run: Any, tmp_path: Path) -> None:
    for command in (
        ("report", "nope", "-o", str(tmp_path / "r.html")),
        ("result", "list", "nope"),
        ("result", "export", "nope"),
    ):
        with pytest.raises(NotFound):
            run(*command)
    assert list(tmp_path.iterdir()) == []


def test_samples_that_are_gone_make_an_export_partial(
    run: Any, home: Home, store: Store, tmp_path: Path
) -> None:
    blobs = ContentStore(home.artifacts)
    trace = next(r.result.trace for r in store.results() if r.result.trace)
    path = blobs.path(trace.digest)
    content = path.read_bytes()
    target = tmp_path / "r.json"
    arguments = ("result", "export", "--format", "json", "--samples", "-o", str(target))
    try:
        blobs.remove(trace.digest)
        with pytest.raises(Partial, match="1 traces are not held"):
            run(*arguments)
    finally:
        path.write_bytes(content)
    run(*arguments)
    results = json.loads(target.read_text())["results"]
    measured = [r for r in results if r["result"]["latency"] and not r["result"]["run"]["canary"]]
    assert measured and all(len(r["samples"]["latency_ns"]) == 200 for r in measured)
