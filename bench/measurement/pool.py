"""Takes a pool of real short runs of one model, for rates.py.

    python bench/measurement/pool.py FILE.json [--runs 400] [--seconds 0.3]

Every run is what the agent does: a fresh worker process, pinned, beside a sampler process, judged
by the guards; only shorter (0.2 s of warm-up at least, a third of a second timed). The file holds,
in the order they were run, each p50 with the reasons that speak against it, but for doubts about
outputs. It is written after every run, and a file that is there is gone on with. Some 1.5 s a run
on an idle machine: 10 minutes for 400.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from native_yardstick.models import conv

from assay.agent.config import AgentConfig
from assay.agent.devices.detect import detect
from assay.agent.home import AgentHome
from assay.agent.measuring.affinity import CpuChooser, pin_threads
from assay.agent.measuring.contest import ABOUT_OUTPUTS
from assay.agent.measuring.measure import Measured, RunPaths, measure
from assay.core import digest
from assay.core.model import (
    MEDIA_NPZ,
    MEDIA_ONNX,
    ArtifactRef,
    DeviceFacts,
    InputSpec,
    Profile,
    RunSpec,
    RuntimeSpec,
    Scenario,
)

MS = 1_000_000


def main() -> int:
    """Runs and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=0.3)
    arguments = parser.parse_args()
    kept: list[dict[str, Any]] = []
    if arguments.file.exists():
        kept = json.loads(arguments.file.read_text())["runs"]
    with tempfile.TemporaryDirectory(prefix="assay-pool-") as folder:
        lab = _Lab.make(Path(folder), round(arguments.seconds * 1e9))
        begin = time.monotonic()
        for number in range(len(kept), arguments.runs):
            kept.append(_row(lab.measure(number)))
            arguments.file.write_text(json.dumps({"model": "conv 4x16x24", "runs": kept}))
            if (number + 1) % 20 == 0:
                passed = (time.monotonic() - begin) / 60
                print(f"{number + 1} of {arguments.runs}, {passed:.1f} min", file=sys.stderr)
    counts = Counter(code for row in kept for code in row["codes"])
    isolation = Counter(row["isolation"] for row in kept)
    held = sum(not row["codes"] for row in kept)
    print(f"{held} of {len(kept)} runs hold; {dict(isolation)}; reasons {dict(counts)}")
    return 0


@dataclass(frozen=True, slots=True)
class _Lab:
    model: Path
    inputs: Path
    run: RunSpec
    device: DeviceFacts
    config: AgentConfig
    chooser: CpuChooser
    folder: Path

    @classmethod
    def make(cls, folder: Path, t_min_ns: int) -> _Lab:
        model, inputs = conv(folder / "m.onnx", layers=4, channels=16, size=24), folder / "in.npz"
        samples = np.random.default_rng(0).standard_normal((16, 16, 24, 24))
        np.savez(inputs, x=samples.astype(np.float32))
        times = (200 * MS, 50 * MS, 20, 5000 * MS, t_min_ns, 4 * t_min_ns)
        profile = Profile("pool", *times, 0.9, 0.01, 0)
        artifact, data = _ref(model, MEDIA_ONNX), _ref(inputs, MEDIA_NPZ)
        run = RunSpec(
            attempt_id="pool",
            cell_key="pool",
            variant_id="pool",
            variant_name="pool",
            artifact=artifact,
            runtime=RuntimeSpec("onnxruntime"),
            scenario=Scenario(),
            profile=profile,
            inputs=InputSpec("made", data),
        )
        config = AgentConfig()
        device = detect(config.sysroot)
        return cls(model, inputs, run, device, config, CpuChooser(config), folder)

    def measure(self, number: int) -> Measured:
        """A run; ``number`` names its folder."""
        plan = self.chooser.plan(self.device.cpu, 1)
        pin_threads(plan.housekeeping_cpus)
        work = self.folder / str(number)
        work.mkdir()
        found = measure(
            self.run,
            RunPaths(self.model, self.inputs),
            self.device,
            "here",
            plan,
            self.config.sysroot,
            work,
            lambda _: None,
            threading.Event(),
            native_dir=AgentHome.default().native,
        )
        (work / "trace.npz").unlink(missing_ok=True)
        return found


def _ref(path: Path, media_type: str) -> ArtifactRef:
    return ArtifactRef(digest.of_file(path), path.stat().st_size, media_type)


def _row(found: Measured) -> dict[str, Any]:
    return {
        "p50_ns": found.latency.p50_ns if found.latency is not None else None,
        "codes": [r.code for r in found.verdict.reasons if r.code not in ABOUT_OUTPUTS],
        "isolation": found.environment["isolation"],
    }


if __name__ == "__main__":
    sys.exit(main())
