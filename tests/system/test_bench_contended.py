"""``assay-agent bench`` beside stress-ng on the measured core: named, and never a false winner."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from assay.agent.config import AgentConfig
from assay.agent.devices.detect import detect
from assay.agent.measuring.affinity import CpuChooser
from tests.conftest import need
from tests.tinymodels import save_mlp

pytestmark = [pytest.mark.system, pytest.mark.slow]

BENCH = (sys.executable, "-m", "assay.agent", "bench", "--profile", "demo", "--format", "json")
# Without the right to raise itself above others: no SCHED_FIFO, no negative nice value.
PLAIN = ("setpriv", "--bounding-set", "-sys_nice", "--inh-caps", "-sys_nice")


@pytest.fixture(autouse=True)
def _needs() -> None:
    need(root=True)
    need(program="stress-ng")
    need(program="setpriv")
    need(module="onnxruntime")


def measured_cpu() -> int:
    plan = CpuChooser(AgentConfig()).plan(detect(Path("/"), samplers=()).cpu, 1)
    return plan.measure_cpus[-1]


@contextmanager
def stress(cpu: int) -> Iterator[None]:
    command = ["stress-ng", "--cpu", "1", "--taskset", str(cpu), "--timeout", "300s", "--quiet"]
    with subprocess.Popen(command) as child:
        try:
            yield
        finally:
            child.terminate()


def bench(*argv: str | Path, before: tuple[str, ...] = ()) -> Any:
    command = [*before, *BENCH, *map(str, argv)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def test_beside_stress_a_comparison_names_it_and_has_no_winner(tmp_path: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.fail("this test needs two CPUs")
    small, large = save_mlp(tmp_path / "a.onnx"), save_mlp(tmp_path / "b.onnx", hidden=2048)
    with stress(measured_cpu()):
        found = bench(small, large, "--rounds", "1", before=PLAIN)
    assert found["finding"] == "inconclusive" and found["held"] == 0
    assert found["codes"][0] == "cpu_contended" and "cpu_contended" in found["sentence"]


def test_beside_stress_a_real_time_run_is_undisturbed_or_says_so(tmp_path: Path) -> None:
    with stress(measured_cpu()):
        (row,) = bench(save_mlp(tmp_path / "a.onnx"))
    conditions = row["result"]["conditions"]
    if "cpu_contended" not in row["reasons"]:
        assert conditions["isolation"] == "fifo_pinned"
        assert conditions["wall_per_cpu"] <= 1.02
