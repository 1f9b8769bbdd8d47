"""``make watch-demo`` as real processes: everything comes up, and Ctrl-C leaves nothing behind."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from assay.controller.home import Home
from assay.controller.records import StaticCost, VariantFile, VariantRecord
from assay.controller.store import open_store
from assay.core.cas import ContentStore
from assay.core.model import MEDIA_NPZ, MEDIA_ONNX
from tests.agent_process import alive, children
from tests.conftest import REPOSITORY, need
from tests.factories import DATASET, T0_NS
from tests.prometheus import Prometheus
from tests.tinymodels import save_mlp, save_samples

pytestmark = [pytest.mark.system, pytest.mark.slow]

SWEEP = """
name = "small"
dataset = "tiny"
variants = ["mlp-*"]
baseline = "mlp-0"
profile = "demo"
rounds = 1
retries = 0
accuracy = false
[[runtimes]]
name = "onnxruntime"
"""


def prepare(root: Path) -> Path:
    """A home that holds two tiny models and their data; its sweep file."""
    home = Home(root / "controller")
    blobs = ContentStore(home.create().artifacts)
    store = open_store(home)
    samples = blobs.add_file(save_samples(root / "samples.npz"), MEDIA_NPZ)
    store.add_dataset(replace(DATASET, name="tiny", splits={"test": samples}))
    for seed in range(2):
        model = blobs.add_file(save_mlp(root / f"{seed}.onnx", seed=seed), MEDIA_ONNX)
        cost = StaticCost(1000, 4000, model.size_bytes, 900, {"Gemm": 2})
        store.add_variant(
            VariantRecord(
                variant_id=f"tiny-{seed}",
                name=f"mlp-{seed}",
                model="mlp",
                dataset="tiny",
                origin="file",
                identity={"seed": seed},
                files={MEDIA_ONNX: VariantFile(model, cost)},
                notes={},
                created_ns=T0_NS,
            )
        )
    store.close()
    (root / "sweep.toml").write_text(SWEEP)
    return root / "sweep.toml"


def test_it_comes_up_watched_and_ctrl_c_ends_everything(tmp_path: Path) -> None:
    need(program="prometheus")
    need(module="onnxruntime")
    sweep, log = prepare(tmp_path), tmp_path / "said"
    command = [sys.executable, "-m", "bench.watch.demo", f"--directory={tmp_path}"]
    with log.open("wb") as said:
        demo = subprocess.Popen(
            [*command, f"--sweep={sweep}", "--agents=2", "--minutes=5"],
            cwd=REPOSITORY,
            stdout=said,
            stderr=said,
        )
    try:
        deadline = time.monotonic() + 120
        while "Ctrl-C ends everything" not in log.read_text():
            assert demo.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        found = re.search(r"prometheus  (http://[0-9.:]+)/targets", log.read_text())
        assert found is not None
        started = children(demo.pid)
        prometheus = Prometheus(found[1])
        prometheus.until(lambda: len(prometheus.query("up == 1")) == 3, "three pages scraped")
        prometheus.until(
            lambda: prometheus.query('sum(assay_sweep_results{sweep="small-1"}) > 0'), "a result"
        )
        # Recorded at the rules' own interval, so one evaluation later than what it is made from.
        prometheus.until(lambda: prometheus.query("assay:sweep_done:ratio"), "a recorded series")
    finally:
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 0, log.read_text()
    assert alive(started) == []
    assert "sweep small-1 runs" in log.read_text() and "Traceback" not in log.read_text()
