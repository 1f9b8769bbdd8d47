"""One sweep over an x86 agent, an emulated arm64 board and a phone: one store, one report."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from assay.agent.home import AgentHome
from assay.agent.plane.identity import Identity
from assay.controller.home import Home
from assay.controller.planning import sweeps
from assay.controller.planning.spec import load_spec
from assay.controller.records import SweepState
from assay.controller.store import open_store
from assay.controller.store.base import Store
from assay.core.cas import ContentStore
from assay.core.model import PROFILES, Absent, Fidelity, Result, VerdictKind
from tests.agent_process import token_for
from tests.conftest import need
from tests.plane_client import controller_process
from tests.system import arm64, tethered
from tests.system.hosts.processes import eventually
from tests.tinymodels import SHORT, save_mlp, save_samples

pytestmark = pytest.mark.system
PATIENCE_S = 300
PHONE = "example-phone-a1-a1"
SWEEP = """
name = "everywhere"
dataset = "points"
variants = ["mlp"]
baseline = "mlp"
profile = "short"
rounds = 1
retries = 0
canary = false
[[runtimes]]
name = "onnxruntime"
"""


@dataclass(frozen=True, slots=True)
class Place:
    """A device's command line, and where its identity is kept."""

    command: tuple[str, ...]
    home: Path
    environment: dict[str, str]

    def serve(self, token: str = "") -> Identity:
        """Serves until there is nothing left to do."""
        done = subprocess.run(
            [*self.command, "--once"],
            env={**self.environment, **({"ASSAY_AGENT_TOKEN": token} if token else {})},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return Identity.load(AgentHome(self.home))


def places(folder: Path, controller: str, phone: str) -> dict[str, Place]:
    """Where each device is."""
    binary = folder / "onnxruntime_perf_test"
    binary.write_text(tethered.PERF_TEST)
    common = {
        **{key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ},
        "ASSAY_AGENT_RUNTIMES": "onnxruntime",
        "ASSAY_AGENT_CONTROLLER": controller,
    }

    def board(name: str, python: str) -> Place:
        home = folder / name
        named = {"ASSAY_AGENT_HOME": str(home), "ASSAY_AGENT_NAME": name}
        return Place((python, "-m", "assay.agent", "run"), home, {**common, **named})

    on_phone = ("phones", "run", "--adb-port", str(tethered.PORT), "--connect", phone)
    named = ("--binary", f"onnxruntime={binary}")
    host = {"PATH": f"{folder}:{common['PATH']}", "ASSAY_AGENT_HOME": str(folder / "host")}
    return {
        "pi": board("pi", str(arm64.python())),
        PHONE: Place(
            (sys.executable, "-m", "assay.agent", *on_phone, *named),
            folder / f"host/phones/{PHONE}",
            {**common, **host},
        ),
        "x86": board("x86", sys.executable),
    }


def assay(home: Home, *words: str) -> str:
    """What the controller's command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "assay.controller", *words],
        env={**os.environ, "ASSAY_HOME": str(home.root)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def start_sweep(home: Home, store: Store, folder: Path) -> None:
    """Adds data and a model whose golden outputs this machine computes, and the sweep."""
    assay(home, "dataset", "add", str(save_samples(folder / "points.npz", n=200)), "--name=points")
    model = save_mlp(folder / "mlp.onnx", batch=1)
    assay(home, "variant", "add", str(model), "--name=mlp", "--dataset=points")
    (folder / "sweep.toml").write_text(SWEEP)
    sweeps.submit(load_spec(folder / "sweep.toml"), store, ContentStore(home.artifacts))


def results_by_device(store: Store) -> dict[str, Result]:
    """The one result of each device."""
    (sweep,) = store.sweeps()
    records = store.results(sweep_id=sweep.sweep_id)
    assert len(records) == 3 and sweep.state is SweepState.DONE
    return {record.result.provenance.device_name: record.result for record in records}


def test_one_sweep_measures_on_every_kind_of_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need(root=True)
    for program in (*arm64.PROGRAMS, *tethered.PROGRAMS):
        need(program=program)
    # The profiles of sweep files would keep the emulated processor busy for minutes.
    monkeypatch.setitem(PROFILES, "short", SHORT)
    home, bench = Home(tmp_path / "controller"), tethered.Bench(tmp_path)
    with controller_process(home) as controller:
        store = open_store(home)
        controller.start()
        try:
            phone = bench.phone("A1", 31).address
            found = places(tmp_path, controller.serving().enrolment_address, phone)
            with ThreadPoolExecutor() as pool:
                tokens = [token_for(home, store) for _ in found]
                list(pool.map(Place.serve, found.values(), tokens))
            # The controller writes facts down a moment after it has answered.
            eventually(lambda: all(store.device(name).facts for name in found), "facts of all")
            start_sweep(home, store, tmp_path)
            with ThreadPoolExecutor() as pool:
                list(pool.map(Place.serve, found.values()))
            eventually(lambda: store.sweeps()[0].state is SweepState.DONE, "the sweep's end")
            results = results_by_device(store)
        finally:
            bench.close()
            store.close()
    check_boards(results["x86"], results["pi"])
    check_phone(results[PHONE])
    text = assay(home, "report", "everywhere")
    page = tmp_path / "report.html"
    assay(home, "report", "everywhere", "-o", str(page))
    for name in found:
        assert name in text and name in page.read_text()


def check_boards(x86: Result, pi: Result) -> None:
    """Equal outputs, but only one of them a number."""
    for result in (x86, pi):
        assert result.failure is None, result.failure
        assert result.golden is not None and result.golden.within_tolerance
        assert result.golden.max_abs_error <= 1e-5
        assert isinstance(result.energy, Absent) and result.energy.reason
    assert x86.quality == pi.quality and pi.quality is not None
    facts = pi.provenance.device
    assert (facts.board, facts.device_class) == (arm64.BOARD, "rpi4")
    assert facts.cpu.architecture == "aarch64" and "Cortex-A72" in facts.cpu.model
    assert "emulated" in facts.capabilities
    assert pi.verdict.kind is VerdictKind.INVALID
    assert ("emulated", True) in {(one.code, one.hard) for one in pi.verdict.reasons}
    assert "emulated" not in x86.provenance.device.capabilities
    assert "emulated" not in {one.code for one in x86.verdict.reasons}


def check_phone(phone: Result) -> None:
    """The binary's numbers, and what they lack."""
    assert phone.failure is None, phone.failure
    assert phone.provenance.device.device_class == "android"
    assert [r.name for r in phone.provenance.device.runtimes] == ["onnxruntime"]
    assert phone.latency is not None and phone.latency.fidelity is Fidelity.EXTERNAL_BINARY
    assert phone.latency.p50_ns == pytest.approx(2.36e6)
    assert phone.verdict.kind is VerdictKind.SUSPECT
    assert [one.code for one in phone.verdict.reasons] == ["outputs_unchecked"]
    assert isinstance(phone.energy, Absent) and "not calibrated" in phone.energy.reason
    assert phone.conditions is not None and "P50" in phone.conditions.notes["binary_output"]
