"""A real Prometheus scrapes the exporter and holds what the store holds."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from assay.controller.comparing.summary import summarise
from assay.controller.comparing.sweep_data import load_sweep
from assay.controller.home import Home
from assay.controller.metrics.exporter import Exporter, start_exporter
from assay.controller.metrics.page import render_once
from assay.controller.metrics.tally import Tallied
from assay.controller.store.base import Store
from assay.core.metrics import CONTROLLER_METRICS
from tests.conftest import REPOSITORY, need
from tests.factories import SHAPES, FakeStore, make_device, make_energy, make_sweep, make_vitals
from tests.stored import stored_sweep

pytestmark = pytest.mark.system

CONFIG = REPOSITORY / "dashboards/prometheus/prometheus.yml"
_READY_S = 30.0


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    home = Home(tmp_path_factory.mktemp("home"))
    store = stored_sweep(home, tmp_path_factory.mktemp("scratch"), shapes=SHAPES[:8])
    yield store
    store.close()


@pytest.fixture(scope="module")
def exporter(store: Store) -> Iterator[Exporter]:
    class Borrowed:
        """The exporter closes what it opens; this store is closed elsewhere."""

        def __getattr__(self, name: str) -> Any:
            return (lambda: None) if name == "close" else getattr(store, name)

    vitals = {"id-pi-bench-1": make_vitals()}
    counts = Tallied({("Sync", "OK"): 3}, commits=2, commit_ns=10**7, results=40)
    with start_exporter(
        Borrowed,  # type: ignore[arg-type]
        "127.0.0.1",
        0,
        vitals=lambda: vitals,
        counts=lambda: counts,
    ) as exporter:
        yield exporter


@pytest.fixture(scope="module")
def prometheus(exporter: Exporter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Prometheus on the shipped configuration, pointed at the exporter's port."""
    need(program="prometheus")
    root = tmp_path_factory.mktemp("prometheus")
    config = root / "prometheus.yml"
    shipped = CONFIG.read_text()
    assert "127.0.0.1:9464" in shipped
    config.write_text(
        shipped.replace("127.0.0.1:9464", f"127.0.0.1:{exporter.port}")
        .replace("scrape_interval: 15s", "scrape_interval: 1s")
        .replace("scrape_timeout: 10s", "scrape_timeout: 1s")
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (root / "log").open("wb")
    process = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={root / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        base = f"http://127.0.0.1:{port}"
        _wait_for_scrape(base, process)
        yield base
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def query(base: str, expression: str) -> list[tuple[dict[str, str], float]]:
    parameters = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"{base}/api/v1/query?{parameters}", timeout=10) as answer:
        found = json.load(answer)
    return [(each["metric"], float(each["value"][1])) for each in found["data"]["result"]]


def _wait_for_scrape(base: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "prometheus ended"
        try:
            if query(base, 'up{job="assay"} == 1'):
                return
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(0.2)
    raise AssertionError("prometheus scraped nothing in time")


def test_prometheus_holds_the_latencies_of_the_store(prometheus: str, store: Store) -> None:
    (section,) = summarise(load_sweep(store, "demo")).sections
    wanted = {
        (row.variant, row.runtime, f"{quantile:g}"): figure.value / 1e9
        for row in section.rows
        if row.counts
        for quantile, figure in row.figures.latency.items()
    }
    found = {
        (labels["variant"], labels["runtime"], labels["quantile"]): value
        for labels, value in query(prometheus, "assay_latency_seconds")
    }
    assert len(wanted) >= 4 * 10
    assert found == wanted


def test_prometheus_holds_sizes_accuracy_and_counts(prometheus: str, store: Store) -> None:
    summary = summarise(load_sweep(store, "demo"))
    sizes = {
        (x["variant"], x["runtime"]): v for x, v in query(prometheus, "assay_artifact_size_bytes")
    }
    assert sizes == {(r.variant, r.runtime): r.size_bytes for r in summary.rows}
    accuracy = query(prometheus, 'assay_accuracy_ratio{variant="student",runtime="litert"}')
    assert [value for _, value in accuracy] == [0.8951]
    total = query(prometheus, "sum(assay_results_total)")
    assert total[0][1] == len(store.results())


def test_ratios_can_be_taken_in_promql(prometheus: str) -> None:
    """The labels join: this is how a dashboard compares variants with the baseline."""
    expression = (
        'assay_latency_seconds{quantile="0.5",runtime="onnxruntime"} / on (device) group_left '
        'assay_latency_seconds{quantile="0.5",runtime="onnxruntime",variant="fp32"}'
    )
    ratios = {labels["variant"]: value for labels, value in query(prometheus, expression)}
    direct = {
        labels["variant"]: value
        for labels, value in query(prometheus, 'assay_latency_ratio{runtime="onnxruntime"}')
    }
    assert ratios.keys() == direct.keys()
    assert all(ratios[name] == pytest.approx(direct[name], rel=1e-12) for name in ratios)


def test_every_metric_the_store_can_give_is_there(prometheus: str) -> None:
    names = {
        labels["__name__"] for labels, _ in query(prometheus, '{job="assay", __name__=~"assay_.+"}')
    }
    unsensed = {m.name for m in CONTROLLER_METRICS if "energy" in m.name or "power" in m.name}
    # No device is there that holds, awaits or fetches anything.
    unseen = {"assay_lease_age_seconds", "assay_queue_age_seconds"}
    unseen |= {"assay_round_troubles_total", "assay_blob_bytes_total"}
    assert names == {m.name for m in CONTROLLER_METRICS} - unsensed - unseen


def test_the_shipped_configuration_is_valid() -> None:
    need(program="promtool")
    checked = subprocess.run(
        ["promtool", "check", "config", str(CONFIG)], capture_output=True, text=True, timeout=30
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("budget", [50_000, 60])
def test_promtool_finds_nothing_to_complain_about(budget: int) -> None:
    need(program="promtool")
    data = make_sweep(shapes=SHAPES, devices=[make_device(), make_device("pi-2")])
    measured = tuple(
        replace(r, result=replace(r.result, energy=make_energy())) for r in data.results
    )
    page = render_once(FakeStore(replace(data, results=measured)), budget)  # type: ignore[arg-type]
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=page, capture_output=True, timeout=30
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
