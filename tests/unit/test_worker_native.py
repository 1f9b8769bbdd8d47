"""The worker's native path: when a run is timed in C, when it is not, and that the loops agree."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from assay.agent.native import NativeLoop
from assay.agent.worker import native
from assay.agent.worker.isolation import Schedule
from assay.agent.worker.loading import Ready, make_ready
from assay.agent.worker.loop import even_gaps_ns, new_buffer
from assay.agent.worker.memory import ProcessMemory
from assay.agent.worker.native import NativePath, open_native, prepare_native
from assay.agent.worker.path import BindingPath, scheduled_loop
from assay.core.errors import UsageError
from assay.core.model import (
    Absent,
    Fidelity,
    Isolation,
    Mode,
    RunSpec,
    RuntimeSpec,
    Scenario,
    ScenarioKind,
    WorkerOrder,
)
from tests.conftest import need
from tests.tinymodels import MS, run_of, save_mlp, save_samples

PLAIN = Schedule(Isolation.NONE, pauses=False)
LONG_NS = 10**10


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> NativeLoop:
    need(program="cc")
    need(module="onnxruntime")
    made = prepare_native(str(tmp_path_factory.mktemp("native")), "onnxruntime")
    assert isinstance(made, NativeLoop), made
    return made


def readied(
    tmp_path: Path, scenario: Scenario | None = None, batch: int | str = "N"
) -> tuple[Ready, RunSpec, Path]:
    model, inputs = save_mlp(tmp_path / "m.onnx", batch=batch), save_samples(tmp_path / "in.npz")
    run = run_of(model, inputs, scenario=scenario or Scenario())
    order = WorkerOrder(run, str(model), str(inputs), "", str(tmp_path), ())
    return make_ready(order, ProcessMemory()), run, model


def opened(loop: NativeLoop, tmp_path: Path, scenario: Scenario | None = None) -> NativePath:
    found = open_native(loop, *readied(tmp_path, scenario))
    assert isinstance(found, NativePath), found
    return found


def test_only_onnxruntime_has_a_native_loop_and_it_needs_a_directory(tmp_path: Path) -> None:
    assert prepare_native(str(tmp_path), "litert") == Absent("no native loop for litert")
    assert isinstance(prepare_native("", "onnxruntime"), Absent)
    assert list(tmp_path.iterdir()) == []


def test_queries_are_timed_in_c_and_compute_the_same(loop: NativeLoop, tmp_path: Path) -> None:
    ready, run, model = readied(tmp_path)
    path = open_native(loop, ready, run, model)
    assert isinstance(path, NativePath) and path.fidelity is Fidelity.NATIVE_LOOP
    out = new_buffer(100)
    assert path.closed_loop().run_block(50, LONG_NS, out) == 50
    assert all(sample > 0 for sample in out[:50]) and not any(out[50:])
    assert path.closed_loop().run_block(1000, LONG_NS, out) == 100, "as many as there is room for"
    assert path.closed_loop().run_block(100, 0, out) == 1, "at least one"


def test_floors_are_below_the_model(loop: NativeLoop, tmp_path: Path) -> None:
    ready, run, model = readied(tmp_path)
    path = open_native(loop, ready, run, model)
    assert isinstance(path, NativePath)
    binding = path.binding_floor_ns(ready.library, run.runtime, PLAIN)
    assert not isinstance(binding, Absent) and 0 < path.harness_floor_ns(PLAIN) < binding
    plain = BindingPath(ready.queries.bound)
    again = plain.binding_floor_ns(ready.library, run.runtime, PLAIN)
    assert not isinstance(again, Absent) and 0 < plain.harness_floor_ns(PLAIN) < again


def test_a_server_counts_from_the_intended_start(loop: NativeLoop, tmp_path: Path) -> None:
    gaps: Iterator[int] = itertools.repeat(1)
    flood = opened(loop, tmp_path).open_loop(gaps, from_intended=True)
    out = new_buffer(2000)
    taken = flood.run_block(2000, LONG_NS, out)
    assert taken == 2000
    # All were to start at once: the last one waited for all before it.
    assert out[taken - 1] > out[0] and flood.last_late_ns > 0
    assert np.all(np.diff(np.array(out)) > 0)


def test_a_paced_loop_counts_the_service_alone(loop: NativeLoop, tmp_path: Path) -> None:
    paced = opened(loop, tmp_path).open_loop(even_gaps_ns(500.0), from_intended=False)
    out = new_buffer(1000)
    taken = paced.run_block(1000, 30 * MS, out)
    assert 1 <= taken <= 16 and max(out[:taken]) < 30 * MS
    assert paced.run_block(1000, 0, out) == 1, "the first one is run in any case"


def test_a_grouped_query_is_several_calls(loop: NativeLoop, tmp_path: Path) -> None:
    ready, run, model = readied(tmp_path, Scenario(ScenarioKind.MULTI_STREAM), batch=1)
    assert ready.queries.grouped
    path = open_native(loop, ready, run, model)
    assert isinstance(path, NativePath)
    assert path.closed_loop().run_block(5, LONG_NS, new_buffer(5)) == 5


def test_what_cannot_be_timed_in_c_says_why(
    loop: NativeLoop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready, run, model = readied(tmp_path, Scenario(ScenarioKind.MULTI_STREAM), batch=1)

    def refused(loop: NativeLoop | Absent, run: RunSpec, model: Path) -> str:
        found = open_native(loop, ready, run, model)
        assert isinstance(found, Absent), found
        return found.reason

    assert refused(Absent("no C compiler"), run, model) == "no C compiler"
    paced = replace(run, scenario=replace(run.scenario, mode=Mode.PACED, target_qps=10.0))
    assert "several calls" in refused(loop, paced, model)
    spec = RuntimeSpec("onnxruntime", provider="CUDAExecutionProvider")
    assert "CUDAExecutionProvider" in refused(loop, replace(run, runtime=spec), model)
    rubbish = tmp_path / "rubbish.onnx"
    rubbish.write_bytes(model.read_bytes()[:40])
    assert "refused" in refused(loop, run, rubbish)
    other = save_mlp(tmp_path / "other.onnx", batch=1, seed=9)
    assert "off the plain path's" in refused(loop, run, other)
    monkeypatch.setattr(native, "_memory_total_bytes", lambda: 1)
    big = replace(ready, memory=replace(ready.memory, model_load_bytes=1 << 20))
    found = open_native(loop, big, run, model)
    assert isinstance(found, Absent) and "second copy" in found.reason


def test_a_schedule_needs_a_rate(tmp_path: Path) -> None:
    ready, run, _ = readied(tmp_path)
    path = BindingPath(ready.queries.bound)
    assert scheduled_loop(path, run) is None
    with pytest.raises(UsageError, match="target_qps"):
        scheduled_loop(path, replace(run, scenario=Scenario(ScenarioKind.SERVER)))
