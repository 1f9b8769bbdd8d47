"""One run by real processes, from settling to a verdict."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from assay.agent.devices.state import DeviceState
from assay.agent.measuring.cpus import CpuPlan
from assay.agent.measuring.evidence import Evidence
from assay.agent.measuring.guard import judge
from assay.agent.measuring.measure import Measured, RunPaths, measure
from assay.agent.measuring.runner import TimeBox, run_worker
from assay.agent.runtimes import runtime
from assay.core.errors import Cancelled
from assay.core.model import (
    MEDIA_NPZ,
    MEDIA_TFLITE,
    Absent,
    CpuFacts,
    DeviceFacts,
    Fidelity,
    GoldenSpec,
    Isolation,
    Mode,
    RunSpec,
    RuntimeSpec,
    SamplerFacts,
    Scenario,
    ScenarioKind,
    VerdictKind,
    WorkerOrder,
)
from assay.core.trace import read_trace
from tests.conftest import need
from tests.tinymodels import (
    MS,
    SHORT,
    ref_of,
    run_of,
    save_arrays,
    save_mlp,
    save_nan,
    save_samples,
    tflite,
)

DEVICE = DeviceFacts(
    board="this machine",
    device_class="x86_64",
    cpu=CpuFacts("cpu", os.uname().machine),
    memory_total_bytes=1 << 30,
    os="linux",
    kernel="6",
    governor=None,
    power_mode=None,
    boot_id="b",
    agent_version="0",
    python_version="3",
    samplers=(SamplerFacts("rapl", "J", "no powercap"),),
)


NATIVE = Path(tempfile.gettempdir()) / f"assay-tests-native-{os.getuid()}"
"""Compiled once for all runs of the tests, by the digest of its sources."""


@pytest.fixture(autouse=True)
def _needs() -> None:
    need(module="onnxruntime")
    need(program="cc")


def plan() -> CpuPlan:
    allowed = sorted(os.sched_getaffinity(0))
    isolation = Isolation.PINNED if len(allowed) > 1 else Isolation.NONE
    return CpuPlan(tuple(allowed[-1:]), tuple(allowed[:1]), isolation)


def measured(
    tmp_path: Path,
    run: RunSpec,
    model: Path,
    inputs: Path,
    golden: Path | None = None,
    cancel: threading.Event | None = None,
    states: list[str] | None = None,
    native_dir: Path | None = NATIVE,
) -> Measured:
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    heard = states if states is not None else []
    return measure(
        run,
        RunPaths(model, inputs, golden),
        DEVICE,
        "here",
        plan(),
        Path("/"),
        work,
        heard.append,
        cancel or threading.Event(),
        native_dir=native_dir,
    )


def codes(found: Measured) -> set[str]:
    return {one.code for one in found.verdict.reasons}


def test_a_run_yields_everything_there_is_to_know(tmp_path: Path) -> None:
    model, inputs = save_mlp(tmp_path / "m.onnx"), save_samples(tmp_path / "in.npz")
    states: list[str] = []
    run = run_of(model, inputs, evaluate=True)
    found = measured(tmp_path, run, model, inputs, states=states)
    assert states == ["settling", "loading", "warming", "measuring", "evaluating"]
    assert found.failure is None and found.latency is not None and found.cold is not None
    latency = found.latency
    assert latency.fidelity is Fidelity.NATIVE_LOOP and latency.duration_ns >= SHORT.t_min_ns
    assert latency.n >= 64 and latency.p90_ns is not None
    assert latency.min_ns <= latency.p50_ns <= latency.p90_ns <= latency.max_ns
    assert 0 < latency.harness_floor_ns < latency.p50_ns
    assert latency.binding_floor_ns is not None and latency.binding_floor_ns < 1 * MS
    assert found.cold.load_ns > 0 and found.cold.first_inference_ns >= latency.min_ns
    assert found.memory is not None and found.memory.runtime_base_bytes is not None
    assert found.memory.process_peak_bytes is not None
    assert found.memory.process_peak_bytes >= found.memory.runtime_base_bytes
    assert found.energy == Absent("rapl: no powercap")
    assert found.quality is not None and found.quality.n == 40
    assert found.conditions is not None and found.conditions.wall_per_cpu > 0
    assert found.provenance.runtime_version == runtime("onnxruntime").version()
    assert found.environment["device"] == "here" and found.factors["precision"] == "float32"
    assert found.factors["input"] == "x float32[1,16]"
    # How quiet this machine is decides the rest; the outputs were checked against labels.
    assert not codes(found) & {"output_mismatch", "outputs_unchecked", "clock_jump", "low_n"}


def test_the_trace_holds_the_samples_the_figures_came_from(tmp_path: Path) -> None:
    model, inputs = save_mlp(tmp_path / "m.onnx"), save_samples(tmp_path / "in.npz")
    found = measured(tmp_path, run_of(model, inputs, evaluate=True), model, inputs)
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["trace.npz"]
    assert found.trace_path is not None and found.latency is not None
    trace = read_trace(found.trace_path)
    assert len(trace.latency_ns) == found.latency.n
    assert np.sort(trace.latency_ns)[(found.latency.n - 1) // 2] == found.latency.p50_ns
    assert trace.block_queries is not None and trace.block_queries.sum() == found.latency.n
    assert trace.predictions is not None and len(trace.predictions) == 40
    labels = np.load(inputs)["y"]
    assert found.quality is not None
    assert found.quality.top1 == pytest.approx(np.mean(trace.predictions == labels))
    assert any(name.startswith("cpu_time.") for name in trace.series)


def test_without_a_native_loop_the_binding_is_timed_and_the_result_says_so(
    tmp_path: Path,
) -> None:
    model, inputs = save_mlp(tmp_path / "m.onnx"), save_samples(tmp_path / "in.npz")
    found = measured(tmp_path, run_of(model, inputs), model, inputs, native_dir=None)
    assert found.latency is not None and found.conditions is not None
    assert found.latency.fidelity is Fidelity.RAW_BINDING
    assert found.environment["fidelity"] == found.factors["fidelity"] == "raw_binding"
    assert "no directory" in found.conditions.notes["native_loop_absent"]


def test_litert_takes_the_same_path(tmp_path: Path) -> None:
    need(module="ai_edge_litert")
    model = tmp_path / "relu.tflite"
    model.write_bytes(
        tflite("RELU", [("x", [1, 16], "FLOAT32")], ("y", [1, 16], "FLOAT32"), open_batch=True)
    )
    inputs = save_samples(tmp_path / "in.npz")
    x = np.load(inputs)["x"]
    golden = save_arrays(tmp_path / "golden.npz", x=x[:5], output_0=np.maximum(x[:5], 0))
    run = replace(
        run_of(model, inputs, runtime=RuntimeSpec("litert"), media_type=MEDIA_TFLITE),
        golden=GoldenSpec(ref_of(golden, MEDIA_NPZ), 1e-6, 1e-6),
    )
    found = measured(tmp_path, run, model, inputs, golden)
    assert found.failure is None and found.latency is not None
    assert found.golden is not None and found.golden.within_tolerance and found.golden.n == 5
    assert found.latency.fidelity is Fidelity.RAW_BINDING and found.conditions is not None
    assert "native_loop_absent" not in found.conditions.notes, "nothing is missing"


def test_outputs_off_the_golden_ones_invalidate_the_number(tmp_path: Path) -> None:
    model, inputs = save_mlp(tmp_path / "m.onnx"), save_samples(tmp_path / "in.npz")
    x = np.load(inputs)["x"][:4]
    golden = save_arrays(tmp_path / "g.npz", x=x, output_0=np.full((4, 10), 3.0, np.float32))
    run = replace(run_of(model, inputs), golden=GoldenSpec(ref_of(golden, MEDIA_NPZ), 1e-3, 1e-3))
    found = measured(tmp_path, run, model, inputs, golden)
    assert found.verdict.kind is VerdictKind.INVALID and "output_mismatch" in codes(found)
    assert found.latency is not None, "the number is kept, labelled"


def test_a_model_that_returns_nan_is_never_valid(tmp_path: Path) -> None:
    model, inputs = save_nan(tmp_path / "nan.onnx"), save_samples(tmp_path / "in.npz")
    found = measured(tmp_path, run_of(model, inputs), model, inputs)
    assert found.verdict.kind is VerdictKind.INVALID
    (reason,) = [one for one in found.verdict.reasons if one.code == "output_mismatch"]
    assert reason.detail == "not finite: y: 16 of 16 values"


def test_another_file_than_asked_for_is_not_measured(tmp_path: Path) -> None:
    model, inputs = save_mlp(tmp_path / "m.onnx"), save_samples(tmp_path / "in.npz")
    run = run_of(model, inputs)
    save_mlp(model, seed=5)
    found = measured(tmp_path, run, model, inputs)
    assert found.latency is None and codes(found) == {"model_hash_mismatch"}
    assert found.failure is not None and found.failure.code == "corrupt_artifact"


def broken(tmp_path: Path) -> Iterator[tuple[str, RunSpec, Path, Path]]:
    model, inputs = save_mlp(tmp_path / "m.onnx"), save_samples(tmp_path / "in.npz")
    rubbish = tmp_path / "rubbish.onnx"
    rubbish.write_bytes(model.read_bytes()[:-20])
    yield "runtime_rejected", run_of(rubbish, inputs), rubbish, inputs
    other = RuntimeSpec("onnxruntime", provider="NoSuchProvider")
    yield "runtime_absent", run_of(model, inputs, runtime=other), model, inputs
    yield "runtime_absent", run_of(model, inputs, runtime=RuntimeSpec("tensorrt")), model, inputs
    narrow = save_samples(tmp_path / "narrow.npz", features=5)
    yield "bad_inputs", run_of(model, narrow), model, narrow
    noise = tmp_path / "noise.npz"
    noise.write_bytes(b"noise")
    yield "bad_inputs", run_of(model, noise), model, noise
    yield "bad_spec", run_of(model, inputs, preprocessing='{"sclae": 2}'), model, inputs
    server = Scenario(ScenarioKind.SERVER)
    yield "usage", run_of(model, inputs, scenario=server), model, inputs


def test_who_is_to_blame_is_told_and_never_raised(tmp_path: Path) -> None:
    for code, run, model, inputs in broken(tmp_path):
        found = measured(tmp_path, run, model, inputs)
        assert found.failure is not None and found.failure.code == code, found.failure
        assert codes(found) == {code} and found.verdict.kind is VerdictKind.INVALID
        assert found.latency is None and found.trace_path is None
        assert isinstance(found.energy, Absent) and list((tmp_path / "work").iterdir()) == []


def test_a_cancel_leaves_nothing_behind(tmp_path: Path) -> None:
    model, inputs = save_mlp(tmp_path / "m.onnx"), save_samples(tmp_path / "in.npz")
    cancel = threading.Event()
    work = tmp_path / "work"
    work.mkdir()

    def on_state(state: str) -> None:
        if state == "warming":
            cancel.set()

    with pytest.raises(Cancelled):
        measure(
            run_of(model, inputs, profile=replace(SHORT, warmup_min_ns=60_000 * MS)),
            RunPaths(model, inputs),
            DEVICE,
            "here",
            plan(),
            Path("/"),
            work,
            on_state,
            cancel,
        )
    assert list(work.iterdir()) == []


@pytest.mark.parametrize(
    ("scenario", "batch"),
    [
        (Scenario(ScenarioKind.MULTI_STREAM), "N"),
        (Scenario(ScenarioKind.MULTI_STREAM), 1),
        (Scenario(ScenarioKind.OFFLINE, samples_per_query=16), "N"),
        (Scenario(ScenarioKind.SERVER, target_qps=200.0), "N"),
        (Scenario(mode=Mode.PACED, target_qps=200.0), "N"),
        (Scenario(mode=Mode.SUSTAINED), "N"),
    ],
    ids=["multi_stream", "multi_stream one by one", "offline", "server", "paced", "sustained"],
)
def test_every_scenario_runs(tmp_path: Path, scenario: Scenario, batch: int | str) -> None:
    model = save_mlp(tmp_path / "m.onnx", batch=batch)
    inputs = save_samples(tmp_path / "in.npz")
    found = measured(tmp_path, run_of(model, inputs, scenario=scenario), model, inputs)
    assert found.failure is None and found.latency is not None and found.conditions is not None
    notes = found.conditions.notes
    assert found.latency.fidelity is Fidelity.NATIVE_LOOP, notes.get("native_loop_absent")
    assert int(notes["uss_bytes"]) > 0 and int(notes["end_to_end_p50_ns"]) > 0
    assert found.latency.response_time is (scenario.kind is ScenarioKind.SERVER)
    assert found.environment["scenario"] == scenario.kind.value
    if scenario.kind is ScenarioKind.MULTI_STREAM:
        assert notes["samples_per_query"] == "8" and ("grouped" in notes) is (batch == 1)
    if scenario.target_qps is not None:
        assert float(notes["served_qps"]) < 260
        assert 0 <= float(notes["late_start_fraction"]) <= 1
    if scenario.mode is Mode.SUSTAINED:
        assert "last_to_first" in notes and len(notes["period_medians_ns"].split()) >= 1


def test_a_spinner_on_the_same_core_is_found_out(tmp_path: Path) -> None:
    """Real load: without real-time priority the two must share, and the number must not hold."""
    model, inputs = save_mlp(tmp_path / "m.onnx"), save_samples(tmp_path / "in.npz")
    cpus = plan().measure_cpus
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    run = run_of(model, inputs)
    order = WorkerOrder(run, str(model), str(inputs), "", str(run_dir), cpus, continuous=True)
    spin = f"import os\nos.sched_setaffinity(0, {cpus!r})\nprint(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", spin], stdout=subprocess.PIPE) as spinner:
        try:
            assert spinner.stdout is not None
            spinner.stdout.readline()
            report = run_worker(order, TimeBox.of(SHORT), threading.Event())
        finally:
            spinner.kill()
    state = DeviceState(0)
    _, verdict = judge(Evidence(run, report, state, state, isolation=report.isolation))
    assert verdict.kind is VerdictKind.INVALID
    assert "cpu_contended" in {one.code for one in verdict.reasons}


ENDS = {
    "worker_crashed": ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
    "worker_oom": ("raise MemoryError('no arena')", "ran out of memory: no arena"),
    "worker_timeout": ("import time\ntime.sleep(600)", "after 2 s while loading"),
}


@pytest.mark.parametrize("code", ENDS)
def test_how_a_worker_ends_is_the_reason(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runtime that does to its process what broken ones do."""
    body, told = ENDS[code]
    model, inputs = save_mlp(tmp_path / "m.onnx"), save_samples(tmp_path / "in.npz")
    package = tmp_path / "site" / "onnxruntime"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f"{body}\n")
    rest = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{package.parent}{os.pathsep}{rest}".rstrip(os.pathsep))
    if code == "worker_timeout":
        monkeypatch.setattr(TimeBox, "of", lambda _profile: TimeBox({"loading": 2.0}))
    found = measured(tmp_path, run_of(model, inputs), model, inputs)
    assert codes(found) == {code} and found.verdict.kind is VerdictKind.INVALID
    assert found.latency is None
    assert found.failure is not None and told in found.failure.message
    assert list((tmp_path / "work").iterdir()) == []


def test_measuring_imports_neither_numpy_nor_a_runtime_here() -> None:
    code = (
        "import sys, assay.agent.measuring.measure\n"
        "found = {'numpy', 'onnxruntime', 'ai_edge_litert', 'grpc'} & set(sys.modules)\n"
        "sys.exit(f'imported {found}' if found else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_worker_imports_no_grpc() -> None:
    code = (
        "import sys, assay.agent.worker.__main__, assay.agent.worker.conduct\n"
        "import assay.agent.runtimes.onnxruntime\n"
        "sys.exit('grpc' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
