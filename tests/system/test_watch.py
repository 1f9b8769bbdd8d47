"""A real Prometheus watches a real controller and three real agents while a sweep runs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from assay.agent.plane.identity import Identity
from assay.controller.home import Home
from assay.controller.live.access import viewer_token
from assay.controller.metrics.exporter import start_exporter
from assay.controller.records import (
    CellRecord,
    DeviceState,
    RoundRecord,
    RoundState,
    StaticCost,
    SweepRecord,
    SweepState,
    VariantFile,
    VariantRecord,
)
from assay.controller.store.base import Store
from assay.core.model import MEDIA_ONNX, RunSpec
from tests.agent_process import AgentProcess, agent_process, tiny_runs, token_for
from tests.conftest import REPOSITORY, need
from tests.factories import (
    SHAPES,
    T0_NS,
    FakeStore,
    make_device,
    make_energy,
    make_sweep,
    make_vitals,
)
from tests.panel_queries import (
    alerting_rules,
    annotation_queries,
    panel_queries,
    recording_rules,
)
from tests.plane_client import ANY_PORTS, ControllerProcess, controller_process
from tests.prometheus import Prometheus, prometheus_process
from tests.stored import stored_sweep

pytestmark = [pytest.mark.system, pytest.mark.slow]

CONFIG = REPOSITORY / "dashboards/prometheus"
NAMES = ("board-a", "board-b", "board-c")
# What a board without the sensor cannot give; asked again of recorded results that have it.
UNSENSED = re.compile(r"energy|power|temperature")


@dataclass
class Lab:
    """Everything that runs."""

    home: Home
    store: Store
    controller: ControllerProcess
    agents: dict[str, AgentProcess]
    prometheus: Prometheus


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    for program in ("prometheus", "promtool"):
        need(program=program)
    need(module="onnxruntime")
    root = tmp_path_factory.mktemp("lab")
    home = Home(root / "controller")
    arguments = (*ANY_PORTS, "--metrics-port=0", "--live-port=0", "--live-tls")
    with ExitStack() as stack:
        controller = stack.enter_context(controller_process(home, arguments=arguments))
        store = stored_sweep(home, root, shapes=SHAPES[:4])
        stack.callback(store.close)
        # Recorded figures: whether this machine's own runs are VALID is not this test's concern.
        board = store.device("pi-bench-1")
        store.update_device(replace(board, state=DeviceState.REVOKED))
        controller.start()
        agents, identities = {}, []
        for name in NAMES:
            agent = stack.enter_context(agent_process(root / name))
            identities.append(enrol(home, store, controller, agent, name))
            agents[name] = agent.start("--metrics-port=0", "--metrics-host=0.0.0.0")
        submit(store, identities, named(store, tiny_runs(home, root, 3)), rounds=6)
        config = configuration(root, home, controller)
        prometheus = stack.enter_context(prometheus_process(config, root))
        yield Lab(home, store, controller, agents, prometheus)


def enrol(
    home: Home, store: Store, controller: ControllerProcess, agent: AgentProcess, name: str
) -> Identity:
    done = subprocess.run(
        [sys.executable, "-m", "assay.agent", "enrol", "--name", name],
        env={
            **os.environ,
            "ASSAY_AGENT_HOME": str(agent.home.root),
            "ASSAY_AGENT_CONTROLLER": controller.serving().enrolment_address,
            "ASSAY_AGENT_TOKEN": token_for(home, store),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return Identity.load(agent.home)


def named(store: Store, runs: list[RunSpec]) -> list[RunSpec]:
    """The runs as variants of a model the store knows; the last is the canary."""
    found = []
    for run, name in zip(runs, ("mlp", "mlp-int8", "mlp-canary"), strict=True):
        cost = StaticCost(1000, 4000, run.artifact.size_bytes, 900, {"Gemm": 2})
        store.add_variant(
            VariantRecord(
                variant_id=run.variant_id,
                name=name,
                model="mlp",
                dataset="tiny",
                origin="file",
                identity={"name": name},
                files={MEDIA_ONNX: VariantFile(run.artifact, cost)},
                notes={},
                created_ns=T0_NS,
            )
        )
        found.append(replace(run, variant_name=name, canary=name == "mlp-canary"))
    return found


def submit(store: Store, devices: list[Identity], runs: list[RunSpec], rounds: int) -> None:
    cells, made = [], []
    for device in devices:
        own = [replace(run, cell_key=f"{run.cell_key}-{device.name}") for run in runs]
        group = f"group-{device.name}"
        cells += [
            CellRecord(run.cell_key, "lab", device.device_id, group, run, index == 0)
            for index, run in enumerate(own)
        ]
        made += [
            RoundRecord(
                round_id=f"lab-{device.name}-{index}",
                sweep_id="lab",
                device_id=device.device_id,
                group=group,
                index=index,
                state=RoundState.QUEUED,
                fence=0,
                runs=tuple(
                    replace(run, attempt_id=f"lab-{device.name}-{index}-{p}")
                    for p, run in enumerate(own)
                ),
            )
            for index in range(rounds)
        ]
    store.add_sweep(
        SweepRecord("lab", "lab", "{}", 7, rounds, SweepState.RUNNING, T0_NS), cells, made
    )


def configuration(root: Path, home: Home, controller: ControllerProcess) -> Path:
    """The shipped configuration with http_sd, on this test's ports and at its pace."""
    serving = controller.serving()
    shutil.copytree(CONFIG / "rules", root / "rules")
    shutil.copy(home.pki / "ca.crt", root / "ca.crt")
    (root / "viewer.token").write_text(viewer_token(home))
    alerts = root / "rules/alerts.yml"
    text = alerts.read_text()
    assert "seconds > 300) and" in text
    # 45 s of silence (a long poll takes up to 30) instead of five minutes, then told at once.
    text = text.replace("seconds > 300) and", "seconds > 45) and", 1).replace(
        "for: 1m", "for: 1s", 1
    )
    alerts.write_text(text)
    shipped = (CONFIG / "prometheus-agents.yml").read_text()
    for usual, here in (
        ("127.0.0.1:9464", f"127.0.0.1:{serving.metrics_port}"),
        ("127.0.0.1:9465", f"127.0.0.1:{serving.live_port}"),
        ("scrape_interval: 15s", "scrape_interval: 1s\n  evaluation_interval: 1s"),
        ("scrape_interval: 60s", "scrape_interval: 1s"),
        ("scrape_timeout: 10s", "scrape_timeout: 1s"),
        ("refresh_interval: 30s", "refresh_interval: 1s"),
    ):
        assert usual in shipped
        shipped = shipped.replace(usual, here)
    path = root / "prometheus.yml"
    path.write_text(shipped)
    checked = subprocess.run(
        ["promtool", "check", "config", str(path)], capture_output=True, text=True, timeout=30
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    return path


def test_http_sd_over_tls_finds_every_agent_and_their_pages_are_scraped(lab: Lab) -> None:
    query = 'up{job="assay-agents"} == 1'
    lab.prometheus.until(lambda: len(lab.prometheus.query(query)) == 3, "three agents found", 240)
    info = lab.prometheus.query("assay_agent_info")
    assert sorted(labels["device"] for labels, _ in info) == sorted(NAMES)
    assert {labels["device"] for labels, _ in lab.prometheus.query(query)} == set(NAMES)


def test_every_panel_and_every_rule_has_data_while_the_sweep_runs(lab: Lab) -> None:
    prometheus = lab.prometheus
    prometheus.until(lambda: lab.store.results(sweep_id="lab"), "a result of the agents", 240)
    counted = 'sum(assay_sweep_results{sweep="lab"}) > 0'
    prometheus.until(lambda: prometheus.query(counted), "the result in Prometheus")
    prometheus.until(
        lambda: prometheus.query("assay_results_total offset 8s"), "a while of history"
    )
    missing = {where: query for where, query in panel_queries() if not prometheus.query(query)}
    unexplained = {where: q for where, q in missing.items() if not UNSENSED.search(q)}
    assert not unexplained
    rules = {name for name in recording_rules() if not prometheus.query(name)}
    assert not rules
    marked = {name: prometheus.query(query) for name, query in annotation_queries().items()}
    assert marked["Sweeps started"] and marked["Findings"]
    health = prometheus.get("rules")["groups"]
    assert {rule["health"] for group in health for rule in group["rules"]} == {"ok"}


def test_panels_on_sensors_have_data_where_the_sensors_are(tmp_path: Path) -> None:
    """Recorded results of boards with power, temperature and clocks; every query without one
    exception."""
    for program in ("prometheus", "promtool"):
        need(program=program)
    data = make_sweep(shapes=SHAPES[:6], devices=[make_device("pi-1"), make_device("pi-2")])
    measured = tuple(
        replace(r, result=replace(r.result, energy=make_energy())) for r in data.results
    )
    store = FakeStore(replace(data, results=measured))
    seen = {f"id-{name}": make_vitals() for name in ("pi-1", "pi-2")}
    with start_exporter(lambda: store, "127.0.0.1", 0, vitals=lambda: seen) as exporter:  # type: ignore[arg-type, return-value]
        shutil.copytree(CONFIG / "rules", tmp_path / "rules")
        config = tmp_path / "prometheus.yml"
        config.write_text(
            (CONFIG / "prometheus.yml")
            .read_text()
            .replace("127.0.0.1:9464", f"127.0.0.1:{exporter.port}")
            .replace("scrape_interval: 15s", "scrape_interval: 1s\n  evaluation_interval: 1s")
            .replace("scrape_timeout: 10s", "scrape_timeout: 1s")
        )
        with prometheus_process(config, tmp_path) as prometheus:
            prometheus.until(lambda: prometheus.query("up offset 5s"), "a while of history")
            empty = {
                where: query for where, query in panel_queries() if not prometheus.query(query)
            }
            assert not empty
            assert not [name for name in recording_rules() if not prometheus.query(name)]


def test_a_device_that_is_killed_is_told_and_those_alive_are_not(lab: Lab) -> None:
    prometheus = lab.prometheus
    assert "AssayDeviceLost" in alerting_rules()
    assert "AssayDeviceLost" not in prometheus.alerts()
    lab.agents["board-c"].end(signal.SIGKILL)
    prometheus.until(lambda: "AssayDeviceLost" in prometheus.alerts(), "the alert", 150)
    told = prometheus.alerts()["AssayDeviceLost"]
    assert [labels["device"] for labels in told] == ["board-c"]


def test_every_alert_fires_and_does_not_fire_by_promtool() -> None:
    need(program="promtool")
    done = subprocess.run(
        ["promtool", "test", "rules", str(CONFIG / "tests/alerts_test.yml")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
