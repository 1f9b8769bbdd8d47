"""What does other work on the other CPU do to a number?

    python bench/measurement/neighbour.py [--runs 11] [--cpu N] [--beside N]

A model is timed on one CPU by the worker's own loop while a child on another is busy for a share of
each 20 ms: spinning, or streaming through more memory than the caches hold. In every run the states
take turns in an order drawn anew, half a second each; the ratio to the idle state is formed within
the run. Printed are the medians with their ranges: what a result flagged `background_load` may be
off by. About 1.5 minutes on an idle machine.
"""

from __future__ import annotations

import argparse
import functools
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
from native_yardstick.models import build
from states import State, measure, shown

from assay.agent.worker.isolation import choose_schedule, pin

LOADS = (("spin", 0.25), ("spin", 0.5), ("spin", 1.0), ("stream", 0.5), ("stream", 1.0))
STREAM_BYTES = 256 << 20
PERIOD_S = 0.02


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
    states: Mapping[str, State] = {"idle": nullcontext} | {
        f"{kind} {share:.0%}": functools.partial(_neighbour, kind, share, arguments.beside)
        for kind, share in LOADS
    }
    names = list(states)[1:]
    print(f"p50 against an idle neighbour, {arguments.runs} runs, {schedule.isolation.value}")
    print(f"| model | {' | '.join(names)} |")
    print("|---" * (len(names) + 1) + "|")
    with tempfile.TemporaryDirectory(prefix="assay-neighbour-") as scratch:
        for model in build(Path(scratch)):
            found = measure(model, states, arguments.runs, schedule, rng)
            cells = " | ".join(shown(found[name].p50) for name in names)
            print(f"| {model.name} | {cells} |", flush=True)
    return 0


@contextmanager
def _neighbour(kind: str, share: float, cpu: int) -> Iterator[None]:
    """Keeps ``cpu`` busy while the block runs."""
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
    parent, at = os.getppid(), 0
    print(flush=True)
    while os.getppid() == parent:
        end = time.perf_counter() + float(share) * PERIOD_S
        while time.perf_counter() < end:
            memory[at : at + part] += 1.0
            at = (at + part) % len(memory)
        time.sleep((1 - float(share)) * PERIOD_S)
    return 0


if __name__ == "__main__":
    sys.exit(main())
