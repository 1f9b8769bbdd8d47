"""``assay-agent bench`` measures a local file and says whether the number holds."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from assay.core.trace import read_trace
from tests.conftest import need
from tests.tinymodels import save_arrays, save_mlp, save_samples


@pytest.fixture(autouse=True)
def _needs() -> None:
    need(module="onnxruntime")


def bench(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "assay.agent", "bench", "--profile", "demo", *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_model_without_inputs_is_measured_on_made_up_ones(tmp_path: Path) -> None:
    model, trace = save_mlp(tmp_path / "m.onnx"), tmp_path / "trace.npz"
    done = bench(model, "--format", "json", "--trace", trace)
    (row,) = json.loads(done.stdout)
    assert done.returncode == (1 if row["verdict"] == "invalid" else 0), done.stderr
    assert {"synthetic_input", "outputs_unchecked"} <= set(row["reasons"])
    assert row["p50_low_ns"] <= row["p50_ns"] <= row["p50_high_ns"] <= row["p99_ns"]
    assert row["result"]["provenance"]["device"]["cpu"]["model"]
    assert len(read_trace(trace).latency_ns) == row["n"] == row["result"]["latency"]["n"]


def test_real_inputs_with_labels_give_accuracy_and_two_models_two_rows(tmp_path: Path) -> None:
    models = [save_mlp(tmp_path / f"{seed}.onnx", seed=seed) for seed in (0, 1)]
    inputs = save_samples(tmp_path / "real.npz")
    done = bench(*models, "--apart", "--inputs", inputs, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["model"] for row in rows] == ["0.onnx", "1.onnx"]
    assert all(float(row["p50_ns"]) > 0 for row in rows)
    assert not any("synthetic" in row["reasons"] for row in rows)


def test_two_models_are_compared_in_rounds_and_too_few_confirm_nothing(tmp_path: Path) -> None:
    small, large = save_mlp(tmp_path / "a.onnx"), save_mlp(tmp_path / "b.onnx", hidden=2048)
    done = bench(small, large, "--rounds", "1", "--format", "json")
    found = json.loads(done.stdout)
    assert done.returncode == 1 and found["finding"] == "inconclusive", done.stderr
    assert found["baseline"] == "a.onnx" and found["candidate"] == "b.onnx"
    assert found["sentence"] in done.stderr
    # On a busy machine no round holds, and that is what is said.
    assert "too_few_rounds" in found["codes"] or found["faults"][0] or found["faults"][1]
    assert len(found["figures"]) == found["rounds"] >= 1


def test_a_number_that_does_not_hold_is_exit_code_one(tmp_path: Path) -> None:
    model, inputs = save_mlp(tmp_path / "m.onnx"), save_samples(tmp_path / "real.npz")
    wrong = np.full((40, 10), 9.0, dtype=np.float32)
    golden = save_arrays(tmp_path / "g.npz", x=np.load(inputs)["x"], output_0=wrong)
    done = bench(model, "--inputs", inputs, "--golden", golden)
    assert done.returncode == 1
    assert "invalid" in done.stdout and "m.onnx: output_mismatch: largest error" in done.stdout


def test_a_file_no_runtime_takes_is_a_plain_error(tmp_path: Path) -> None:
    model = save_mlp(tmp_path / "m.onnx")
    model.write_bytes(model.read_bytes()[:100])
    done = bench(model)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: onnxruntime refused the model: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["{dir}/gone.onnx"], "does not exist"),
        (["{dir}/model.pt"], "none of .onnx, .tflite, .ncnn, .pt2"),
        (["{dir}/m.onnx", "--option", "turbo"], "KEY=VALUE"),
        (["{dir}/m.onnx", "--shape", "x=a"], "INPUT=N,N"),
        (["{dir}/m.onnx", "{dir}/m.onnx", "--trace", "t.npz"], "give one"),
        (["{dir}/m.onnx", "{dir}/m.onnx", "--against", "threads=2"], "give one"),
        (["{dir}/m.onnx", "--against", "threads=none"], "from 1 on"),
        (["{dir}/m.onnx", "--against", "spinning=1"], "yes or no"),
        (["{dir}/m.onnx", "--against", "runtime=none"], "one of"),
    ],
)
def test_a_wrong_call_is_exit_code_two(tmp_path: Path, argv: list[str], told: str) -> None:
    for name in ("model.pt", "m.onnx"):
        (tmp_path / name).write_bytes(b"x")
    done = bench(*(text.format(dir=tmp_path) for text in argv))
    assert done.returncode == 2 and told in done.stderr and "Traceback" not in done.stderr
