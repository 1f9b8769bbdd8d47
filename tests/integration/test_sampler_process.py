"""The sampler as a process of its own, over composed boards and under violence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from assay.agent.devices.detect import detect
from assay.agent.measuring.cpus import CpuPlan
from assay.agent.measuring.observe import RunPaths, Setting, observe
from assay.agent.measuring.sampler_process import SamplerProcess
from assay.core.model import Isolation, WorkerReport
from tests.boards import break_with_eio, copy_of, write
from tests.tinymodels import run_of
from tests.unit.test_guard import REPORT

HOUSEKEEPING = (min(os.sched_getaffinity(0)),)
ORIN = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"


def eventually(holds: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_board_is_sampled_on_one_clock_from_start_to_stop(tmp_path: Path) -> None:
    root = copy_of("jetson_orin_nano", tmp_path)
    process = SamplerProcess.start(tmp_path / "samples", HOUSEKEEPING, 50, root)
    begin = time.monotonic_ns()
    assert process.pid is not None
    affinity = os.sched_getaffinity(process.pid)
    time.sleep(0.5)
    end = time.monotonic_ns()
    series = process.stop()
    assert process.loss == "" and affinity == set(HOUSEKEEPING)
    total = series["ina3221.total"]
    # The first reading was taken before start returned, the last after stop was asked for.
    assert total.t_ns[0] <= begin and total.t_ns[-1] >= end
    assert list(total.t_ns) == sorted(total.t_ns)
    assert set(total.value) == {5.056 * 1.032}
    assert total.unit == "W" and total.meter is not None and total.meter.scope == "module"
    assert series["cpufreq.cpu0"].value[0] == 1_728_000_000
    assert process.counters["ina3221"].successes == len(total.t_ns) >= 3
    assert "intel-rapl" in process.absent["rapl"]
    assert not alive(process.pid)
    assert dict(process.stop()) == dict(series)


def test_this_machine_is_sampled(tmp_path: Path) -> None:
    process = SamplerProcess.start(tmp_path / "samples", HOUSEKEEPING, 20)
    time.sleep(0.2)
    series = process.stop()
    assert process.loss == ""
    assert series["memory.available"].value[0] > 0


def test_a_sensor_that_dies_in_the_run_costs_only_itself(tmp_path: Path) -> None:
    root = copy_of("jetson_orin_nano", tmp_path)
    process = SamplerProcess.start(tmp_path / "samples", HOUSEKEEPING, 50, root)
    time.sleep(0.2)
    for name in ("in1_input", "in2_input", "in3_input"):
        break_with_eio(root / ORIN / name)
    time.sleep(0.5)
    series = process.stop()
    assert process.loss == ""
    told = process.counters["ina3221"]
    assert told.successes > 0 and told.failures > 0 and "Input/output" in told.last_error
    assert series["thermal.cpu-thermal"].t_ns[-1] > series["ina3221.total"].t_ns[-1]


def test_what_died_in_a_run_is_told_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copy_of("jetson_orin_nano", tmp_path)
    board = detect(root)

    def worker(*_: object) -> WorkerReport:
        for name in ("in1_input", "in2_input", "in3_input"):
            break_with_eio(root / ORIN / name)
        time.sleep(0.3)
        return REPORT

    monkeypatch.setattr("assay.agent.measuring.observe.run_worker", worker)
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    file = write(tmp_path, {"file": ""}) / "file"
    seen = observe(
        Setting(
            run_of(file, file),
            RunPaths(file, file),
            board,
            CpuPlan((1,), HOUSEKEEPING, Isolation.PINNED),
            root,
            run_dir,
            lambda _: None,
            threading.Event(),
        ),
        None,
        50,
    )
    # Between the first file and the last a read may have told the other rails.
    assert "reads failed" in seen.troubles["ina3221"]
    assert seen.troubles["ina3221"].endswith(": hwmon1/in1_input: Input/output error")
    assert set(seen.troubles) == {"ina3221"}
    assert "intel-rapl" in seen.absent["rapl"]


def test_a_killed_sampler_is_named_and_the_run_goes_on(tmp_path: Path) -> None:
    process = SamplerProcess.start(tmp_path / "samples", HOUSEKEEPING, 50)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    assert dict(process.stop()) == {}
    assert "status -9" in process.loss


def test_a_sampler_that_hangs_is_killed_with_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.agent.measuring.sampler_process._STOP_WAIT_S", 0.3)
    process = SamplerProcess.start(tmp_path / "samples", HOUSEKEEPING, 50)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    assert dict(process.stop()) == {}
    assert "did not stop" in process.loss
    assert not alive(process.pid)


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    process = SamplerProcess.start(tmp_path / "no" / "such" / "samples", HOUSEKEEPING, 50)
    assert dict(process.stop()) == {}
    assert "ended with status 1" in process.loss


def test_a_program_that_cannot_start_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    process = SamplerProcess.start(tmp_path / "samples", HOUSEKEEPING, 50)
    assert "did not start" in process.loss
    assert dict(process.stop()) == {} and process.pid is None


def test_a_child_that_never_gets_ready_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    process = SamplerProcess.start(tmp_path / "samples", HOUSEKEEPING, 50)
    assert process.loss
    assert dict(process.stop()) == {}


def test_the_sampler_ends_with_its_parent_however_that_dies(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from assay.agent.measuring.sampler_process import SamplerProcess\n"
        f"p = SamplerProcess.start(Path({str(tmp_path / 'samples')!r}), (), 50)\n"
        "print(p.pid, flush=True); time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert alive(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert eventually(lambda: not alive(pid))
    assert eventually((tmp_path / "samples").exists)


def test_the_sampler_imports_nothing_heavy() -> None:
    code = (
        "import sys, assay.agent.measuring.sampler_process, assay.agent.samplers as s\n"
        "s.all_samplers()\n"
        "heavy = {'numpy', 'grpc', 'google.protobuf', 'structlog', 'rich', 'psutil'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
