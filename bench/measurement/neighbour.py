"""What does other work on the other CPU do to a number?

    python bench/measurement/neighbour.py [--runs 11] [--cpu N] [--beside N]

A model is timed on one CPU by the worker's own loop, as in loop_ratio.py, while a child on another
is busy for a share of each 20 ms: spinning, or streaming through more memory than the caches hold.
In every run the states take turns in an order drawn anew, half a second each; the ratio to the idle
state is formed within the run. Printed are the medians with their ranges: what a result flagged
`background_load` may be off by.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
from native_yardstick.models import Model, build

from assay.agent.runtimes.onnxruntime import OnnxRuntime
from assay.agent.worker import interpreter
from assay.agent.worker.isolation import Schedule, choose_schedule, pin
from assay.agent.worker.loop import ClosedLoop, new_buffer
from assay.core import stats
from assay.core.model import RuntimeSpec

IDLE = ("idle", 0.0)
STATES = (IDLE, ("spin", 0.25), ("spin", 0.5), ("spin", 1.0), ("stream", 0.5), ("stream", 1.0))
BLOCK_NS = 400_000_000
STREAM_BYTES = 256 << 20
PERIOD_S = 0.02
Ratios = dict[tuple[str, float], list[float]]


def main() -> int:
    """Measures and prints."""
    everything = sorted(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--cpu", type=int, default=everything[-1])
    parser.add_argument("--beside", type=int, default=everything[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--busy", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.busy:
        return _busy(*arguments.busy.split(":"))
    if arguments.cpu == arguments.beside:
        raise SystemExit("this needs two CPUs")
    rng = random.Random(arguments.seed)
    schedule = choose_schedule(pin((arguments.cpu,)))
    print(f"{arguments.runs} runs, isolation {schedule.isolation.value}")
    print("| model | " + " | ".join(f"{kind} {share:.0%}" for kind, share in STATES[1:]) + " |")
    print("|---" * len(STATES) + "|")
    with tempfile.TemporaryDirectory(prefix="assay-neighbour-") as scratch:
        for model in build(Path(scratch)):
            ratios = _measure(model, arguments, schedule, rng)
            print(f"| {model.name} | " + " | ".join(_cell(ratios[s]) for s in STATES[1:]) + " |")
    return 0


def _cell(ratios: list[float]) -> str:
    return f"{median(ratios):.3f} ({min(ratios):.3f}–{max(ratios):.3f})"


def _measure(
    model: Model, arguments: argparse.Namespace, schedule: Schedule, rng: random.Random
) -> Ratios:
    session = OnnxRuntime.load(model.path, RuntimeSpec("onnxruntime"))
    (spec,) = session.inputs
    shape = tuple(size or 1 for size in spec.shape)
    feed = {spec.name: np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
    bound = session.bind([feed])
    loop, out = ClosedLoop(bound, (0,)), new_buffer()
    found: Ratios = {state: [] for state in STATES}
    with interpreter.quiet():
        for _ in range(arguments.runs):
            p50 = {}
            for state in rng.sample(STATES, len(STATES)):
                with _neighbour(*state, arguments.beside), schedule.block():
                    taken = loop.run_block(len(out), BLOCK_NS, out)
                p50[state] = stats.median(np.frombuffer(out, dtype=np.int64)[:taken])
            for state in STATES:
                found[state].append(p50[state] / p50[IDLE])
    return found


@contextmanager
def _neighbour(kind: str, share: float, cpu: int) -> Iterator[None]:
    """Keeps ``cpu`` busy while the block runs."""
    if not share:
        yield
        return
    command = [sys.executable, __file__, "--busy", f"{kind}:{share}:{cpu}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        try:
            yield
        finally:
            child.kill()


def _busy(kind: str, share: str, cpu: str) -> int:
    os.sched_setaffinity(0, {int(cpu)})
    memory = np.ones(STREAM_BYTES // 8 if kind == "stream" else 1)
    part = max(len(memory) // 64, 1)
    print(flush=True)
    at = 0
    while True:
        end = time.perf_counter() + float(share) * PERIOD_S
        while time.perf_counter() < end:
            memory[at : at + part] += 1.0
            at = (at + part) % len(memory)
        time.sleep((1 - float(share)) * PERIOD_S)


if __name__ == "__main__":
    sys.exit(main())
