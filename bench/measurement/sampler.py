"""Does reading the sensors change what is measured?

    python bench/measurement/sampler.py [--runs 21] [--cpu N]

A model is timed on one CPU by the worker's own loop, with the sampler process off, at 10 Hz and at
100 Hz on another CPU, in turns of half a second in an order drawn anew in every run. Printed are
ratios to "off" within the runs: the p50's Hodges–Lehmann estimate with its exact 95 % interval, to
lie within ± 1 %, and the p99's median with its range. Exit code 1 where the interval does not.
About 2 minutes on an idle machine.
"""

from __future__ import annotations

import argparse
import functools
import os
import random
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

from native_yardstick.models import build
from states import State, bounds, measure, shown

from assay.agent.measuring.sampler_process import SamplerProcess
from assay.agent.worker.isolation import choose_schedule, pin

RATES_HZ = (10.0, 100.0)
LIMIT = 0.01


def main() -> int:
    """Measures and prints; 1 where the sampler shows."""
    everything = sorted(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=21)
    parser.add_argument("--cpu", type=int, default=everything[-1])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rest = tuple(cpu for cpu in everything if cpu != arguments.cpu) or (arguments.cpu,)
    rng = random.Random(arguments.seed)
    schedule = choose_schedule(pin((arguments.cpu,)))
    print(f"against no sampler, {arguments.runs} runs, {schedule.isolation.value}")
    print("| model | rate | p50 (95 % interval) | target | p99 (range) |")
    print("|---|---|---|---|---|")
    missed = 0
    with tempfile.TemporaryDirectory(prefix="assay-sampler-") as scratch:
        states: Mapping[str, State] = {"off": nullcontext} | {
            f"{hz:g} Hz": functools.partial(_sampled, Path(scratch), rest, hz) for hz in RATES_HZ
        }
        for model in build(Path(scratch)):
            found = measure(model, states, arguments.runs, schedule, rng)
            for name, ratios in found.items():
                p50 = bounds(ratios.p50)
                if p50 is None:
                    raise SystemExit("six runs are needed for an interval")
                value, low, high = p50
                within = low >= 1 - LIMIT and high <= 1 + LIMIT
                missed += not within
                word = "± 1 %" if within else "± 1 % MISSED"
                print(f"| {model.name} | {name} | {value:.4f} ({low:.4f}–{high:.4f}) | {word} | "
                      f"{shown(ratios.p99)} |", flush=True)  # fmt: skip
    return 1 if missed else 0


@contextmanager
def _sampled(folder: Path, cpus: tuple[int, ...], hz: float) -> Iterator[None]:
    sampler = SamplerProcess.start(folder / "sampler", cpus, hz)
    if sampler.loss:
        raise SystemExit(f"no sampler: {sampler.loss}")
    try:
        yield
    finally:
        sampler.stop()


if __name__ == "__main__":
    sys.exit(main())
