"""The agent with its aarch64 wheels as a Raspberry Pi beside an x86 agent, in one store."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from assay.agent.home import AgentHome
from assay.agent.plane.identity import Identity
from assay.controller.home import Home
from assay.controller.store import open_store
from assay.core.cas import ContentStore
from assay.core.model import MEDIA_NPZ, MEDIA_ONNX, GoldenSpec, RunSpec, VerdictKind
from tests.agent_process import results_of, submit, token_for
from tests.conftest import need
from tests.plane_client import controller_process
from tests.system import arm64
from tests.system.hosts.processes import eventually
from tests.tinymodels import ref_of, run_of, save_arrays, save_mlp, save_samples

pytestmark = pytest.mark.system
TOLERANCE = 1e-5
PATIENCE_S = 240


def golden_run(home: Home, folder: Path) -> RunSpec:
    """A tiny model, whose golden outputs onnxruntime computes on this machine."""
    import onnxruntime

    model, samples = save_mlp(folder / "mlp.onnx"), save_samples(folder / "samples.npz")
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    x = np.load(samples)["x"][:8]
    wanted = session.run(None, {"x": x})[0]
    golden = save_arrays(folder / "golden.npz", x=x, output_0=wanted)
    blobs = ContentStore(home.artifacts)
    for path, media_type in ((model, MEDIA_ONNX), (samples, MEDIA_NPZ), (golden, MEDIA_NPZ)):
        blobs.add_file(path, media_type)
    spec = GoldenSpec(ref_of(golden, MEDIA_NPZ), TOLERANCE, TOLERANCE)
    return replace(run_of(model, samples), golden=spec)


def test_an_emulated_pi_gives_the_outputs_of_x86_and_no_number(tmp_path: Path) -> None:
    need(root=True)
    for program in arm64.PROGRAMS:
        need(program=program)
    home, interpreters = Home(tmp_path / "controller"), {"x86": sys.executable}
    interpreters["pi"] = str(arm64.python())
    with controller_process(home) as controller:
        store = open_store(home)
        controller.start()

        def serve(name: str, token: str = "") -> Identity:
            environment = {
                **{key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ},
                "ASSAY_AGENT_HOME": str(tmp_path / name),
                "ASSAY_AGENT_NAME": name,
                "ASSAY_AGENT_RUNTIMES": "onnxruntime",
                "ASSAY_AGENT_CONTROLLER": controller.serving().enrolment_address,
                **({"ASSAY_AGENT_TOKEN": token} if token else {}),
            }
            done = subprocess.run(
                [interpreters[name], "-m", "assay.agent", "run", "--once"],
                env=environment,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
            )
            assert done.returncode == 0, done.stderr[-4000:]
            return Identity.load(AgentHome(tmp_path / name))

        run = golden_run(home, tmp_path)
        results = {}
        for name in interpreters:
            identity = serve(name, token_for(home, store))
            one = replace(run, cell_key=f"cell-{name}")
            sweep = submit(store, identity, [one])
            serve(name)
            (record,) = results_of(store, sweep)
            results[name] = record.result
        eventually(lambda: store.device("pi").facts, "the board's facts")
        store.close()
    pi, x86 = results["pi"], results["x86"]
    for result in (pi, x86):
        assert result.failure is None, result.failure
        assert result.golden is not None and result.golden.within_tolerance
        assert result.golden.n == 8 and result.golden.max_abs_error <= TOLERANCE
    facts = pi.provenance.device
    assert (facts.board, facts.device_class) == (arm64.BOARD, "rpi4")
    assert facts.cpu.architecture == "aarch64" and "Cortex-A72" in facts.cpu.model
    assert "emulated" in facts.capabilities
    assert "emulated" not in x86.provenance.device.capabilities
    assert pi.verdict.kind is VerdictKind.INVALID
    assert ("emulated", True) in {(one.code, one.hard) for one in pi.verdict.reasons}
    assert "emulated" not in {one.code for one in x86.verdict.reasons}
