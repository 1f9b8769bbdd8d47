"""Build processes: how they answer, die, are stopped, and end with whoever started them."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from assay.controller import canary
from assay.controller.variants.orders import FilesOrder, read_file_reports
from assay.controller.variants.process import BuildProcesses, build_folder
from assay.core.errors import BadInputs, BuildFailed, DiskFull, RuntimeRejected
from assay.core.npz import npz_bytes
from tests.conftest import need

CANARY = Path(canary.__file__).parent / "canary.onnx"


@pytest.fixture
def order(tmp_path: Path) -> FilesOrder:
    """Check the canary as if it were a user's model."""
    need(module="onnxruntime")
    need(module="onnx")
    test = tmp_path / "test.npz"
    x = np.random.RandomState(0).randn(20, 1, 48, 48).astype(np.float32)
    test.write_bytes(npz_bytes({"x": x, "y": np.zeros(20, np.int64)}))
    return FilesOrder({"onnx": str(CANARY)}, (), {}, str(test), None, "{}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "build"
    path.mkdir()
    return path


def mine() -> list[psutil.Process]:
    """Build processes started by this test."""
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE
        and "assay.controller.variants.child" in child.cmdline()
    ]


def test_report_tells_cost_golden_outputs_and_accuracy(order: FilesOrder, folder: Path) -> None:
    said: list[tuple[int, str]] = []
    BuildProcesses().run(order, folder, lambda done, note: said.append((done, note)))
    report = read_file_reports(folder)["onnx"]
    assert report.macs == canary.PINNED["model/onnx"].cost.macs
    assert report.notes["arithmetic"] == "fp32"
    assert report.notes["controller_top1"].endswith(" of 20")
    assert np.load(report.golden)["output_0"].shape == (16, 10)
    assert said[0] == (0, "finishing .onnx") and said[-1][0] > 0
    assert mine() == []


@pytest.mark.parametrize(
    ("data", "error"), [(b"hello", RuntimeRejected), (CANARY.read_bytes()[:-999], RuntimeRejected)]
)
def test_refusal_keeps_its_class(
    order: FilesOrder, folder: Path, tmp_path: Path, data: bytes, error: type[Exception]
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(error, match=r"model\.onnx"):
        BuildProcesses().run(replace(order, sources={"onnx": str(path)}), folder, print)


def test_samples_that_do_not_fit_are_bad_inputs(order: FilesOrder, folder: Path) -> None:
    with pytest.raises(BadInputs, match="change the dataset's preprocessing"):
        BuildProcesses().run(
            replace(order, preprocessing_json='{"shape": [48, 48]}'), folder, print
        )


def test_process_that_dies_is_told_with_its_signal_and_its_last_words(
    order: FilesOrder, folder: Path
) -> None:
    def kill(_done: int, _note: str) -> None:
        (folder / "build.log").write_text("first\nlast words\n")
        for process in mine():
            process.send_signal(signal.SIGSEGV)

    with pytest.raises(BuildFailed) as caught:
        BuildProcesses().run(order, folder, kill)
    text = str(caught.value)
    assert "was ended by SIGSEGV while 'finishing .onnx'" in text and "last words" in text


def test_mistake_in_the_process_is_told_with_the_end_of_its_traceback(
    order: FilesOrder, folder: Path
) -> None:
    broken = replace(order, steps=[{"use": "no-such-step"}])
    with pytest.raises(BuildFailed, match=r"status 1 while .*\n(.*\n)*.*KeyError"):
        BuildProcesses().run(broken, folder, print)


def test_close_ends_what_runs_and_lets_nothing_start(order: FilesOrder, folder: Path) -> None:
    processes = BuildProcesses()
    with pytest.raises(BuildFailed, match="SIGKILL"):
        processes.run(order, folder, lambda _done, _note: processes.close())
    assert mine() == []
    with pytest.raises(BuildFailed, match="stopped before it started"):
        processes.run(order, folder, print)
    assert mine() == [] and threading.active_count() >= 1


def test_process_ends_when_its_builder_is_killed(
    order: FilesOrder, folder: Path, tmp_path: Path
) -> None:
    script = tmp_path / "builder.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import time
            from pathlib import Path
            from assay.controller.variants.orders import FilesOrder
            from assay.controller.variants.process import BuildProcesses

            def said(done, note):
                print(note, flush=True)
                time.sleep(60)

            # Enough work to be still at it when its builder dies.
            order = FilesOrder({{"onnx": {str(CANARY)!r}}}, (), {{}}, {order.test!r}, None, "{{}}")
            BuildProcesses().run(order, Path({str(folder)!r}), said)
            """
        )
    )
    x = np.zeros((2_000, 1, 48, 48), np.float32)
    Path(order.test).write_bytes(npz_bytes({"x": x, "y": np.zeros(2_000, np.int64)}))
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE) as builder:
        assert builder.stdout is not None
        assert builder.stdout.readline().strip() == b"finishing .onnx"
        started = mine()
        os.kill(builder.pid, signal.SIGKILL)
    assert len(started) == 1
    _, alive = psutil.wait_procs(started, timeout=20)
    assert alive == [] and not (folder / "report.json").exists()


def test_full_disk_is_told_as_such() -> None:
    with pytest.raises(DiskFull, match="free some space"), build_folder() as path:
        assert path.is_dir()
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not path.exists()


def test_other_trouble_with_files_is_not_a_full_disk() -> None:
    with pytest.raises(PermissionError), build_folder():
        raise PermissionError(errno.EACCES, "Permission denied")
