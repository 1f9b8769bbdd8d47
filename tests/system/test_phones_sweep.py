"""A real controller gets a phone's results: enrolled, measured and recorded as its own device."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from assay.agent.home import AgentHome
from assay.agent.plane.identity import Identity
from assay.controller.home import Home
from assay.controller.store import open_store
from assay.core.cas import ContentStore
from assay.core.model import (
    MEDIA_NPZ,
    MEDIA_TFLITE,
    Absent,
    Fidelity,
    RunSpec,
    RuntimeSpec,
    VerdictKind,
)
from tests.agent_process import results_of, submit, token_for
from tests.conftest import need
from tests.plane_client import controller_process
from tests.system.hosts.processes import eventually
from tests.system.tethered import BENCHMARK, PORT, PROGRAMS, Bench
from tests.tinymodels import run_of, save_samples

pytestmark = pytest.mark.system


def runs_for(home: Home, folder: Path) -> list[RunSpec]:
    """One the phone has a binary for, one it has none for."""
    blobs = ContentStore(home.artifacts)
    model, samples = folder / "model.tflite", save_samples(folder / "samples.npz")
    model.write_bytes(bytes(range(256)) * 64)
    blobs.add_file(samples, MEDIA_NPZ)
    blobs.add_file(model, MEDIA_TFLITE)
    return [
        replace(
            run_of(model, samples, runtime=RuntimeSpec(name), media_type=MEDIA_TFLITE),
            cell_key=f"cell-{name}",
        )
        for name in ("litert", "onnxruntime")
    ]


def test_a_sweep_over_a_phone_ends_in_the_store(tmp_path: Path) -> None:
    need(root=True)
    for program in PROGRAMS:
        need(program=program)
    bench, home = Bench(tmp_path), Home(tmp_path / "controller")
    binary = tmp_path / "benchmark_model"
    binary.write_text(BENCHMARK)
    with controller_process(home) as controller:
        store = open_store(home)
        controller.start()
        environment = {
            **os.environ,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "ASSAY_AGENT_HOME": str(tmp_path / "host"),
            "ASSAY_AGENT_CONTROLLER": controller.serving().enrolment_address,
            "ASSAY_AGENT_TOKEN": token_for(home, store),
        }
        command = [sys.executable, "-m", "assay.agent", "phones", "run", "--once"]
        command += ["--adb-port", str(PORT), "--binary", f"litert={binary}"]

        def serve() -> None:
            address = bench.phones[0].address
            done = subprocess.run(
                [*command, "--connect", address],
                env=environment,
                capture_output=True,
                text=True,
                timeout=90,
            )
            assert done.returncode == 0, done.stderr[-4000:]

        try:
            bench.phone("A1", 31)
            serve()
            name = "example-phone-a1-a1"
            # The controller writes facts down a moment after it has answered.
            eventually(lambda: store.device(name).facts, "the phone's facts")
            device = store.device(name)
            assert device.facts is not None and device.facts.device_class == "android"
            assert [r.name for r in device.facts.runtimes] == ["litert"]
            identity = Identity.load(AgentHome(tmp_path / "host/phones/a1"))
            sweep = submit(store, identity, runs_for(home, tmp_path))
            serve()
            good, absent = (record.result for record in results_of(store, sweep))
        finally:
            bench.close()
            store.close()
    assert good.failure is None, good.failure
    assert good.latency is not None and good.latency.fidelity is Fidelity.EXTERNAL_BINARY
    assert good.verdict.kind is VerdictKind.SUSPECT
    assert isinstance(good.energy, Absent)
    assert good.provenance.device_name == "example-phone-a1-a1"
    assert good.conditions is not None and "median=" in good.conditions.notes["binary_output"]
    assert absent.failure is not None and absent.failure.code == "runtime_absent"
