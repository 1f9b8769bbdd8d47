"""The same bytes on both sides: what the controller builds with is what a device measures with."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from assay.controller.datasets.add import assemble, choose_kind
from assay.controller.datasets.base import silent
from assay.controller.datasets.npz import read_npz
from assay.controller.datasets.splits import publish
from assay.core.cas import ContentStore
from assay.core.preprocess import Preprocessing

DEVICE = """
import hashlib, sys
from assay.agent.runtimes.base import TensorSpec
from assay.agent.worker.feeds import Dataset, load_arrays
from assay.core.preprocess import Preprocessing
from pathlib import Path

path, preprocessing, *shape = sys.argv[1:]
spec = TensorSpec("input", "float32", (None, *map(int, shape)))
data = Dataset(load_arrays(Path(path)), Preprocessing.from_json(preprocessing), [spec])
for row in range(len(data)):
    print(hashlib.sha256(data.feed([row], 1)["input"].tobytes()).hexdigest())
assert not [name for name in sys.modules if name.startswith("assay.controller")]
"""
MEL = '{"rate_hz": 8000, "window": 64, "hop": 32, "bands": 8, "low_hz": 50, "high_hz": 3900}'
CASES = {
    "photo": (
        np.random.RandomState(0).randint(0, 256, (10, 40, 30, 3)).astype(np.uint8),
        '{"transpose": [2, 0, 1], "resize": [null, 23, 19], "crop": [null, 16, 16], "scale": 0.004,'
        ' "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.21, 0.22]}',
    ),
    "grey": (
        np.random.RandomState(1).randint(0, 256, (10, 28, 28)).astype(np.uint8),
        '{"shape": [28, 28, 1], "pad": [[2, 2], [2, 2], [0, 0]], "scale": 0.0039}',
    ),
    "sound": (
        np.random.RandomState(2).randint(-32768, 32767, (10, 800)).astype(np.int16),
        f'{{"shape": [1, 800], "scale": 3.0517578125e-05, "log_mel": {MEL}, "mean": -4, "std": 3}}',
    ),
    "table": (
        np.random.RandomState(3).randn(10, 5).astype(np.float32),
        '{"mean": [1, 2, 3, 4, 5], "std": [0.1, 0.2, 0.3, 0.4, 0.5]}',
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_controller_and_device_make_the_same_bytes_of_a_sample(name: str, tmp_path: Path) -> None:
    x, preprocessing = CASES[name]
    np.savez(tmp_path / "data.npz", x_test=x, y_test=np.zeros(10, np.int64))
    found = choose_kind(["data.npz"], None, {}).read([str(tmp_path / "data.npz")], (), silent)
    raw = assemble(found, name, preprocessing_json=preprocessing)
    blobs = ContentStore(tmp_path / "blobs")
    record = publish(raw, blobs, 1, silent)
    path = blobs.path(record.splits["test"].digest)
    ours = Preprocessing.from_json(record.preprocessing_json).apply(read_npz(path)["x"])
    done = subprocess.run(
        [
            *(sys.executable, "-c", DEVICE, str(path), record.preprocessing_json),
            *(str(size) for size in ours.shape[1:]),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [hashlib.sha256(one.tobytes()).hexdigest() for one in ours]
