"""What does a result's timed call cost beside what people usually time?

    python bench/measurement/loop_ratio.py [--runs 11] [--cpu N] [--fifo/--no-fifo]

One process, pinned to one core (SCHED_FIFO in half-second blocks where that is allowed), one
thread. In each run the two ways take turns on the same session and the same inputs, in an order
drawn anew: ``raw_binding``, the loop and binding of assay.agent.worker as they are shipped, and
``session.run(None, {"x": x})`` in the same loop. The ratio of their medians is formed within a run;
printed are the medians over the runs, with the ranges. Exit code 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from native_yardstick.models import Model, build

from assay.agent.runtimes.base import Bound, raw
from assay.agent.runtimes.onnxruntime import OnnxRuntime
from assay.agent.worker import interpreter
from assay.agent.worker.isolation import Schedule, choose_schedule, pin
from assay.agent.worker.loop import ClosedLoop, new_buffer
from assay.core import stats
from assay.core.model import Fidelity, RuntimeSpec

#: Highest ratio of raw_binding to session.run, p50, by model.
TARGETS: Mapping[str, float] = {"tiny": 0.6, "small": 0.85, "medium": 1.01}
SAMPLES = 8
BLOCK_NS = 400_000_000


@dataclass(frozen=True, slots=True)
class Times:
    """Medians in µs, one a run, of both ways."""

    raw: list[float]
    run: list[float]

    @property
    def ratios(self) -> list[float]:
        """Formed within each run."""
        return [a / b for a, b in zip(self.raw, self.run, strict=True)]


def main() -> int:
    """Measures and prints; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fifo", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    schedule = choose_schedule(pin((arguments.cpu,)), continuous=not arguments.fifo)
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="assay-loop-") as scratch:
        times = {
            model.name: _measure(model, arguments.runs, schedule, rng)
            for model in build(Path(scratch))
        }
    return _print(times, schedule, arguments.runs)


def _measure(model: Model, runs: int, schedule: Schedule, rng: random.Random) -> Times:
    session = OnnxRuntime.load(model.path, RuntimeSpec("onnxruntime"))
    (spec,) = session.inputs
    shape = tuple(size or 1 for size in spec.shape)
    seeded = np.random.default_rng(0)
    feeds = [{spec.name: seeded.standard_normal(shape).astype(np.float32)} for _ in range(SAMPLES)]
    bound = session.bind(feeds)
    public: Any = session._session.run
    plain = Bound(
        tuple(raw(public, None, feed) for feed in feeds), None, bound.outputs, Fidelity.PUBLIC_API
    )
    loops = {"raw": ClosedLoop(bound, range(SAMPLES)), "run": ClosedLoop(plain, range(SAMPLES))}
    times = Times([], [])
    out = new_buffer()
    with interpreter.quiet():
        for loop in loops.values():
            _block(loop, schedule, out)
        for _ in range(runs):
            for way in rng.sample(sorted(loops), len(loops)):
                getattr(times, way).append(_block(loops[way], schedule, out) / 1000)
    return times


def _block(loop: ClosedLoop, schedule: Schedule, out: array[int]) -> float:
    """Nanoseconds at the median of one block."""
    with schedule.block():
        taken = loop.run_block(len(out), BLOCK_NS, out)
    return stats.median(np.frombuffer(out, dtype=np.int64)[:taken])


def _print(times: Mapping[str, Times], schedule: Schedule, runs: int) -> int:
    print(f"{runs} runs, isolation {schedule.isolation.value}, onnxruntime {OnnxRuntime.version()}")
    print("| model | raw_binding p50 µs | session.run p50 µs | ratio (range) | target |")
    print("|---|---|---|---|---|")
    missed = []
    for name, one in times.items():
        ratio, target = median(one.ratios), TARGETS[name]
        spread = f"{min(one.ratios):.3f}–{max(one.ratios):.3f}"
        row = f"| {name} | {median(one.raw):.2f} | {median(one.run):.2f} "
        print(f"{row}| {ratio:.3f} ({spread}) | ≤ {target} |")
        missed += [name] if ratio > target else []
    if missed:
        print(f"target missed: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
