"""The main job, whole and real: what ``make demo`` promises, held against what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from assay.core.cas import ContentStore
from assay.core.trace import read_trace
from tests.conftest import need

pytestmark = [pytest.mark.soak, pytest.mark.slow]

DONE = (0, 3)  # 3: a cell has no VALID result, as on a busy machine


def demo_command(directory: Path, *arguments: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "assay.controller",
        "demo",
        "--directory",
        str(directory),
        *arguments,
    ]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for module in ("torch", "onnxruntime", "ai_edge_litert", "litert_torch"):
        need(module=module)
    return tmp_path_factory.mktemp("demo") / "kept"


@pytest.fixture(scope="module")
def demo(directory: Path) -> subprocess.CompletedProcess[str]:
    """The demo from nothing: trains, builds, measures."""
    done = subprocess.run(
        demo_command(directory), capture_output=True, text=True, timeout=2400, check=False
    )
    assert done.returncode in DONE, done.stderr[-4000:]
    return done


@pytest.fixture(scope="module")
def results(demo: subprocess.CompletedProcess[str], directory: Path) -> list[dict[str, Any]]:
    document = json.loads((directory / "results.json").read_text())
    return [record["result"] for record in document["results"]]


def measured(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [r for r in results if not r["run"]["canary"]]


def started_from(directory: Path) -> list[str]:
    """Command lines of processes that belong to this demo."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            line = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            environment = (path / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if int(path.name) != os.getpid() and str(directory) in line + environment:
            found.append(line)
    return found


def test_a_dozen_cells_over_both_runtimes_have_their_three_rounds(
    results: list[dict[str, Any]], figures: Callable[..., None]
) -> None:
    rounds: dict[tuple[str, str], set[int]] = {}
    for r in measured(results):
        cell = (r["run"]["variant_name"], r["run"]["runtime"]["name"])
        rounds.setdefault(cell, set()).add(r["round_index"])
    figures(cells=len(rounds), results=len(results))
    assert len(rounds) >= 12
    assert {runtime for _, runtime in rounds} == {"onnxruntime", "litert"}
    assert all(len(indices) >= 3 for indices in rounds.values())


def test_every_result_has_samples_provenance_and_a_verdict(
    results: list[dict[str, Any]], directory: Path
) -> None:
    blobs = ContentStore(directory / "controller/artifacts")
    for r in results:
        assert r["failure"] is None, r["failure"]
        assert r["verdict"]["kind"] in ("valid", "suspect", "invalid")
        assert (r["verdict"]["kind"] == "valid") == (r["verdict"]["reasons"] == [])
        facts = r["provenance"]["device"]
        assert facts["cpu"]["model"] and facts["cpu"]["flags"] and facts["kernel"]
        assert r["provenance"]["runtime_version"] and facts["agent_version"]
        assert r["environment"] and r["factors"]
        assert "absent" in r["energy"] or r["energy"]["total_j"] > 0
        trace = read_trace(blobs.path(r["trace"]["digest"]))
        assert len(trace.latency_ns) == r["latency"]["n"]


def test_accuracy_was_measured_on_the_device_and_makes_sense(
    results: list[dict[str, Any]], figures: Callable[..., None]
) -> None:
    """A wrong input or layout would show here: no variant of this model is below 70 %."""
    rated = {
        (r["run"]["variant_name"], r["run"]["runtime"]["name"]): r["quality"]["top1"]
        for r in measured(results)
        if r["quality"] is not None
    }
    figures(**{f"top1 of {variant}": f"{top1:.4f}" for (variant, _), top1 in rated.items()})
    assert len(rated) == len({(r["run"]["cell_key"]) for r in measured(results)})
    assert rated["fp32", "onnxruntime"] > 0.85
    assert abs(rated["fp32", "onnxruntime"] - rated["fp32", "litert"]) < 0.002
    assert min(rated.values()) > 0.7


def test_the_numbers_in_report_metrics_and_export_agree(
    results: list[dict[str, Any]], directory: Path
) -> None:
    page = (directory / "report.html").read_text()
    block = re.search(r'<script type="application/json" id="assay-data">(.*?)</script>', page, re.S)
    assert block is not None
    rows = [row for section in json.loads(block[1])["sections"] for row in section["rows"]]
    scraped = {
        (
            s.name,
            s.labels.get("variant"),
            s.labels.get("runtime"),
            s.labels.get("quantile"),
        ): s.value
        for family in text_string_to_metric_families((directory / "metrics.txt").read_text())
        for s in family.samples
    }
    assert len(rows) == len({r["run"]["cell_key"] for r in measured(results)})
    for row in rows:
        valid = sorted(
            r["latency"]["p50_ns"] / 1e9
            for r in measured(results)
            if r["run"]["cell_key"] == row["cell"] and r["verdict"]["kind"] == "valid"
        )
        key = ("assay_latency_seconds", row["variant"], row["runtime"], "0.5")
        if not valid:
            assert not row["ranked"] and key not in scraped
            continue
        shown = row["latency_seconds"]["0.5"]
        assert shown["value"] == valid[(len(valid) - 1) // 2] == scraped[key]
        assert (shown["low"], shown["high"]) == (valid[0], valid[-1])


def test_what_is_not_valid_is_said_with_its_cure(
    demo: subprocess.CompletedProcess[str],
    results: list[dict[str, Any]],
    figures: Callable[..., None],
) -> None:
    kinds = Counter(r["verdict"]["kind"] for r in measured(results))
    figures(**kinds)
    holds = {r["run"]["cell_key"] for r in measured(results) if r["verdict"]["kind"] == "valid"}
    cells = {r["run"]["cell_key"] for r in measured(results)}
    assert demo.returncode == (0 if holds == cells else 3)
    if kinds["valid"] < len(measured(results)):
        assert "not VALID because" in demo.stderr and "would cure it" in demo.stderr
        assert "--retry" in demo.stderr


def test_a_second_run_builds_and_measures_nothing(
    demo: subprocess.CompletedProcess[str], directory: Path, results: list[dict[str, Any]]
) -> None:
    again = subprocess.run(
        demo_command(directory), capture_output=True, text=True, timeout=120, check=False
    )
    assert again.returncode == demo.returncode, again.stderr[-2000:]
    assert "measured already" in again.stderr
    assert "train" not in again.stderr
    after = json.loads((directory / "results.json").read_text())["results"]
    assert len(after) == len(results)
    assert started_from(directory) == []


def test_ctrl_c_while_it_measures_leaves_nothing_running_and_nothing_corrupt(
    demo: subprocess.CompletedProcess[str], directory: Path, tmp_path: Path
) -> None:
    """A fourth round is asked for, interrupted in its middle, and taken up again from there."""
    spec = directory / "sweep.toml"
    original = spec.read_text()
    spec.write_text(
        original.replace('name = "demo"', 'name = "again"')
        .replace("rounds = 3", "rounds = 1")
        .replace('models = ["resnet8-fashion"]', 'variants = ["fp32", "pruned"]')
    )
    log = (tmp_path / "log").open("wb")
    process = subprocess.Popen(demo_command(directory), stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 240
        while b"measured 2 of" not in (tmp_path / "log").read_bytes():
            assert process.poll() is None, (tmp_path / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()[-2000:]
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert started_from(directory) == []
        done = subprocess.run(
            demo_command(directory), capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode in DONE, done.stderr[-2000:]
    finally:
        spec.write_text(original)
        if process.poll() is None:
            process.kill()
        log.close()
    home = {**os.environ, "ASSAY_HOME": str(directory / "controller")}
    doctor = [sys.executable, "-m", "assay.controller", "doctor", "--thorough"]
    sound = subprocess.run(doctor, capture_output=True, text=True, env=home, check=False)
    assert sound.returncode == 0, sound.stdout
