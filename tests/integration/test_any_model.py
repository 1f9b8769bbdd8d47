"""Models that nobody here made, from `variant add` to a verdict, in both runtimes."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from assay.agent.measuring.cpus import CpuPlan
from assay.agent.measuring.measure import Measured, RunPaths, measure
from assay.agent.measuring.runner import TimeBox
from assay.controller.cli import assay
from assay.controller.home import Home
from assay.controller.records import VariantRecord
from assay.controller.store import open_store
from assay.controller.store.base import Store
from assay.controller.variants.add import add_variant
from assay.controller.variants.own_inputs import Declared
from assay.controller.variants.resizing import at_dims
from assay.core.cas import ContentStore
from assay.core.errors import BadInputs, RuntimeRejected, SpecError, WorkerOom
from assay.core.model import (
    CpuFacts,
    DeviceFacts,
    FailureClass,
    Isolation,
    RunSpec,
    RuntimeSpec,
    Scenario,
    VerdictKind,
)
from assay.core.synthetic import Rule
from tests import anymodels, anytflite
from tests.conftest import need
from tests.tinymodels import SHORT, ref_of, run_of

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
)


@dataclass
class Lab:
    """A controller's store and a place to measure."""

    folder: Path
    store: Store
    blobs: ContentStore

    def add(self, path: Path, declared: Declared, time_box_s: float = 60.0) -> VariantRecord:
        return add_variant(
            [path], path.stem, path.stem, declared, self.store, self.blobs, time_box_s=time_box_s
        )

    def measure(self, record: VariantRecord, scenario: Scenario) -> Measured:
        ((media, file),) = record.files.items()
        assert file.inputs is not None and file.golden is not None
        run = RunSpec(
            attempt_id="attempt",
            cell_key="cell",
            variant_id=record.variant_id,
            variant_name=record.name,
            artifact=file.artifact,
            runtime=RuntimeSpec("onnxruntime" if media == "model/onnx" else "litert"),
            scenario=scenario,
            profile=SHORT,
            inputs=file.inputs,
            golden=file.golden,
            seed=7,
        )
        refs = (file.artifact, file.inputs.artifact, file.golden.artifact)
        return self.run(run, *(self.blobs.path(ref.digest) for ref in refs))

    def run(self, run: RunSpec, model: Path, inputs: Path, golden: Path) -> Measured:
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        allowed = sorted(os.sched_getaffinity(0))
        isolation = Isolation.PINNED if len(allowed) > 1 else Isolation.NONE
        plan = CpuPlan(tuple(allowed[-1:]), tuple(allowed[:1]), isolation)
        return measure(
            run,
            RunPaths(model, inputs, golden),
            DEVICE,
            "here",
            plan,
            Path("/"),
            work,
            lambda _state: None,
            threading.Event(),
        )


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    need(module="onnxruntime")
    need(module="ai_edge_litert")
    home = Home(tmp_path / "home")
    store = open_store(home)
    yield Lab(tmp_path, store, ContentStore(home.artifacts))
    store.close()


@dataclass(frozen=True)
class Kind:
    """A model, what is declared of it, and what a run of it is labelled with at least."""

    write: Callable[[Path], Path]
    file: str
    declared: Declared
    labels: frozenset[str] = frozenset({"synthetic_input"})
    scenario: Scenario = field(default_factory=Scenario)


TEXT = Declared(
    dims={"sequence": 32},
    rules={"ids": Rule(low=0, high=99, lengths=(4, 32)), "mask": Rule(mask_of="ids")},
)
KINDS = [
    Kind(anymodels.text, "text.onnx", TEXT),
    Kind(anymodels.text, "batch.onnx", TEXT, scenario=Scenario(samples_per_query=4)),
    Kind(anymodels.recurrent, "recurrent.onnx", Declared(state={"h": "h_out"})),
    Kind(anymodels.table, "table.onnx", Declared()),
    Kind(anymodels.outside, "outside.onnx", Declared()),
    Kind(anymodels.branching, "branching.onnx", Declared()),
    Kind(
        anymodels.logarithm,
        "logarithm.onnx",
        Declared(),
        frozenset({"synthetic_input", "outputs_nonfinite"}),
    ),
    Kind(
        lambda path: anytflite.mixing(path, open_batch=True),
        "mixing.tflite",
        Declared(state={"state": "total"}, rules={"step": Rule(low=-0.5, high=0.5)}),
    ),
    Kind(
        lambda path: anytflite.mixing(path, quantised=True),
        "quantised.tflite",
        Declared(rules={"step": Rule(low=-1, high=1)}),
    ),
    Kind(anytflite.accumulating, "accumulating.tflite", Declared()),
    Kind(
        anytflite.pairing,
        "pairing.tflite",
        Declared(dims={"x[0]": 2}, rules={"x": Rule(low=0, high=1)}),
    ),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.file)
def test_any_model_ends_with_a_labelled_number_over_checked_outputs(kind: Kind, lab: Lab) -> None:
    record = lab.add(kind.write(lab.folder / kind.file), kind.declared)
    found = lab.measure(record, kind.scenario)
    assert found.failure is None and found.latency is not None and found.latency.n > 10
    assert found.golden is not None and found.golden.within_tolerance, found.golden
    codes = {reason.code for reason in found.verdict.reasons}
    assert kind.labels <= codes and "output_mismatch" not in codes, found.verdict
    assert "outputs_unchecked" not in codes and "bad_inputs" not in codes
    assert not list((lab.folder / "work").glob("run*"))


def test_inputs_are_recorded_and_other_sizes_are_made_and_run(lab: Lab) -> None:
    record = lab.add(anymodels.text(lab.folder / "text.onnx"), TEXT)
    (longer,) = at_dims([record], {"sequence": 48}, lab.blobs, "sweep")
    before, after = record.files["model/onnx"], longer.files["model/onnx"]
    assert after.artifact == before.artifact and after.golden != before.golden
    assert before.inputs is not None and after.inputs is not None
    told = json.loads(after.inputs.made_json)
    assert told["dims"] == {"sequence": 48} and told["open"] == ["batch", "sequence"]
    assert told["inputs"]["mask"]["values"] == "mask_of ids"
    assert np.load(lab.blobs.path(after.inputs.artifact.digest))["ids"].shape == (32, 48)
    assert at_dims([record], {"sequence": 32}, lab.blobs, "sweep") == [record]
    found = lab.measure(longer, Scenario())
    assert found.failure is None and found.golden is not None and found.golden.within_tolerance
    assert found.factors["input"].endswith("48]")


def test_sizes_nobody_chose_are_told_where_a_model_does_not_run_with_them(lab: Lab) -> None:
    path = anymodels.narrow(lab.folder / "narrow.onnx")
    with pytest.raises(RuntimeRejected, match=r"does not run with sequence=128 \(proposed\): set"):
        lab.add(path, Declared())
    record = lab.add(path, Declared(dims={"sequence": 32}))
    assert record.notes["onnx.dims"] == "sequence=32"
    assert record.files["model/onnx"].cost.macs == 32 * 4
    with pytest.raises(SpecError, match=r"sweep: dims: narrow at sequence=48: .*cannot run"):
        at_dims([record], {"sequence": 48}, lab.blobs, "sweep")


def test_state_that_grows_is_refused_by_name_and_runs_without(lab: Lab) -> None:
    path = anymodels.cache(lab.folder / "cache.onnx")
    with pytest.raises(BadInputs, match=r"state.past: output present has the shape \(1, 17, 8\)"):
        lab.add(path, Declared(state={"past": "present"}))
    assert lab.add(path, Declared()).notes["onnx.dims"] == "past_length=16 (proposed)"


def test_a_model_that_never_ends_or_eats_all_memory_is_refused_in_time(lab: Lab) -> None:
    with pytest.raises(RuntimeRejected, match=r"endless.onnx: .*after 5 s without a word"):
        lab.add(anymodels.endless(lab.folder / "endless.onnx"), Declared(), time_box_s=5)
    much = Declared(rules={"n": Rule(constant=25e9)})
    with pytest.raises(WorkerOom, match="size 100000000000"):
        lab.add(anymodels.greedy(lab.folder / "greedy.onnx"), much)
    assert lab.store.variants() == []


def test_an_endless_model_is_killed_in_time_and_the_next_one_is_measured(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs = anymodels.endless(lab.folder / "endless.onnx"), lab.folder / "x.npz"
    np.savez(inputs, x=np.ones((4, 1), np.float32))
    with monkeypatch.context() as patched:
        patched.setattr(TimeBox, "of", lambda _profile: TimeBox({}, first_s=4.0))
        found = lab.run(run_of(model, inputs), model, inputs, inputs)
    assert found.failure is not None and found.failure.code == "worker_timeout"
    assert "after 4 s while loading" in found.failure.message
    assert found.verdict.kind is VerdictKind.INVALID and not list((lab.folder / "work").iterdir())
    record = lab.add(anymodels.logarithm(lab.folder / "log.onnx"), Declared())
    assert lab.measure(record, Scenario()).failure is None


def test_variant_show_tells_the_sizes_it_proposes(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.add(anymodels.text(lab.folder / "text.onnx"), Declared())
    monkeypatch.setenv("ASSAY_HOME", str(lab.folder / "home"))
    shown = CliRunner().invoke(assay, ["variant", "show", "text"])
    assert "note onnx.dims: sequence=128 (proposed)\n" in shown.output


def test_a_greedy_model_and_a_bad_bundle_fail_on_the_device_by_name(lab: Lab) -> None:
    record = lab.add(
        anymodels.greedy(lab.folder / "greedy.onnx"), Declared(rules={"n": Rule(constant=9)})
    )
    file = record.files["model/onnx"]
    assert file.inputs is not None and file.golden is not None
    inputs = lab.folder / "much.npz"
    np.savez(inputs, n=np.full((2, 1), 25_000_000_000))
    model, golden = (lab.blobs.path(r.digest) for r in (file.artifact, file.golden.artifact))
    run = RunSpec(
        attempt_id="attempt",
        cell_key="cell",
        variant_id="v",
        variant_name="greedy",
        artifact=file.artifact,
        runtime=RuntimeSpec("onnxruntime"),
        scenario=Scenario(),
        profile=SHORT,
        inputs=replace(file.inputs, artifact=ref_of(inputs, "application/x-npz")),
        golden=file.golden,
    )
    failure = lab.run(run, model, inputs, golden).failure
    assert failure is not None and failure.code == "worker_oom"
    assert failure.failure_class is FailureClass.MODEL and "100000000000" in failure.message
    spec = RuntimeSpec("onnxruntime", options={"custom_ops_library": "/nowhere/ops.so"})
    failure = lab.run(replace(run, runtime=spec), model, inputs, golden).failure
    assert failure is not None and failure.code == "runtime_rejected"
    assert "library /nowhere/ops.so is not on this device" in failure.message
    bomb = lab.folder / "bomb"
    bomb.write_bytes(b"PK\x03\x04 no more")
    failure = lab.run(
        replace(run, artifact=ref_of(bomb, "model/onnx")), bomb, inputs, golden
    ).failure
    assert failure is not None and failure.code == "runtime_rejected"
    assert failure.failure_class is FailureClass.MODEL and "no sound bundle" in failure.message
