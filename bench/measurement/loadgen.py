"""Our loop and our percentiles against MLPerf's LoadGen (x86 wheel; pip install mlcommons-loadgen).

    python bench/measurement/loadgen.py [--runs 11] [--cpu N]

Loop: the same model in ONNX Runtime is timed by our native loop, by our loop over its binding, and
by LoadGen's SingleStream scenario whose SUT, in Python, calls that same binding; in turns in an
order drawn anew, in one pinned process. What a runtime of ours is timed by, the native loop, is to
be faster by 2 µs a query or more, as a median of differences within the runs.

Estimates: LoadGen's own samples are read from its trace and given to our early-stopping rule. What
it printed in its summary and what we say must be equal to the nanosecond. Exit code 1 where either
is missed. About 1 minute on an idle machine.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import mlperf_loadgen
import numpy as np
from native_yardstick.models import Model, build
from states import shown

from assay.agent.native import NativeSession, OrtSettings, aligned_empty, prepare
from assay.agent.runtimes.base import Call
from assay.agent.runtimes.onnxruntime import OnnxRuntime
from assay.agent.worker import interpreter
from assay.agent.worker.isolation import Schedule, choose_schedule, pin
from assay.agent.worker.loop import ClosedLoop, new_buffer
from assay.core import stats
from assay.core.model import Absent, RuntimeSpec

QUERIES = {"tiny": 20_000, "small": 5_000, "medium": 200}
LEAST_GAIN_US = 2.0
_ESTIMATE = re.compile(r"Early stopping ([\d.]+)th percentile estimate: (\d+)")
_LATENCY = re.compile(r'"complete_ns":(\d+)')


def main() -> int:
    """Measures and prints; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    schedule = choose_schedule(pin((arguments.cpu,)))
    rng, missed, wrong, estimates = random.Random(arguments.seed), 0, 0, 0
    print(f"{arguments.runs} runs, {schedule.isolation.value}")
    print("| model | LoadGen p50, µs | raw binding, µs | native loop, µs | "
          "native is faster by, µs (range) | target |")  # fmt: skip
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="assay-loadgen-") as scratch:
        for model in build(Path(scratch)):
            times = _measure(model, Path(scratch), arguments.runs, schedule, rng)
            estimates, wrong = estimates + times.estimates, wrong + times.wrong
            gains = [a - b for a, b in zip(times.loadgen, times.native, strict=True)]
            met = median(gains) >= LEAST_GAIN_US
            missed += not met
            p50s = (median(one) for one in (times.loadgen, times.raw, times.native))
            cells = " | ".join(f"{p50:.2f}" for p50 in p50s)
            word = f"≥ {LEAST_GAIN_US:g}{'' if met else ' MISSED'}"
            print(f"| {model.name} | {cells} | {shown(gains)} | {word} |", flush=True)
    print(f"early-stopping estimates equal to LoadGen's: {estimates - wrong} of {estimates}")
    return 1 if missed or wrong or not estimates else 0


@dataclass(slots=True)
class _Times:
    """p50 in µs, one a run; how many estimates LoadGen printed and how many of ours differ."""

    loadgen: list[float] = field(default_factory=list)
    raw: list[float] = field(default_factory=list)
    native: list[float] = field(default_factory=list)
    estimates: int = 0
    wrong: int = 0


def _measure(
    model: Model, folder: Path, runs: int, schedule: Schedule, rng: random.Random
) -> _Times:
    session = OnnxRuntime.load(model.path, RuntimeSpec("onnxruntime"))
    (spec,) = session.inputs
    shape = tuple(size or 1 for size in spec.shape)
    feed = aligned_empty(shape, np.dtype(np.float32)).view(np.float32)
    feed[...] = np.random.default_rng(0).standard_normal(shape)
    bound = session.bind([{spec.name: feed}])
    loop, queries, times = ClosedLoop(bound, (0,)), QUERIES[model.name], _Times()
    with _native(model.path, folder) as native, interpreter.quiet():
        native.bind([{spec.name: feed}])
        out = np.zeros(queries, dtype=np.int64)
        for _ in range(runs):
            for way in rng.sample(("loadgen", "raw", "native"), 3):
                with schedule.block():
                    if way == "native":
                        native.run_block(queries // 4, None, out)
                        samples = out[: native.run_block(queries, None, out)]
                    elif way == "raw":
                        kept = new_buffer()
                        taken = loop.run_block(queries, 400_000_000, kept)
                        samples = np.frombuffer(kept, dtype=np.int64)[:taken]
                    else:
                        samples, printed = _loadgen(bound.calls[0], queries, folder)
                        times.estimates += len(printed)
                        times.wrong += sum(_differs(samples, *pair) for pair in printed.items())
                getattr(times, way).append(stats.median(samples) / 1e3)
    return times


def _native(model: Path, folder: Path) -> NativeSession:
    loop = prepare(folder)
    session = loop if isinstance(loop, Absent) else loop.onnxruntime(model, OrtSettings())
    if isinstance(session, Absent):
        raise SystemExit(f"no native loop: {session.reason}")
    return session


def _loadgen(call: Call, queries: int, folder: Path) -> tuple[Any, dict[float, int]]:
    """LoadGen's samples in ns, and the estimates of its summary by quantile."""
    response, complete = mlperf_loadgen.QuerySampleResponse, mlperf_loadgen.QuerySamplesComplete

    def issue(samples: list[Any]) -> None:
        call()
        complete([response(sample.id, 0, 0) for sample in samples])

    sut = mlperf_loadgen.ConstructSUT(issue, lambda: None)
    library = mlperf_loadgen.ConstructQSL(16, 16, lambda _: None, lambda _: None)
    settings, logs = mlperf_loadgen.TestSettings(), mlperf_loadgen.LogSettings()
    settings.scenario = mlperf_loadgen.TestScenario.SingleStream
    settings.mode = mlperf_loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms = 0
    settings.min_query_count = settings.max_query_count = queries
    output = mlperf_loadgen.LogOutputSettings()
    output.outdir, output.copy_summary_to_stdout = str(folder), False
    logs.log_output, logs.enable_trace = output, True
    mlperf_loadgen.StartTestWithLogSettings(sut, library, settings, logs)
    mlperf_loadgen.DestroySUT(sut)
    mlperf_loadgen.DestroyQSL(library)
    trace = (folder / "mlperf_log_trace.json").read_text()
    summary = (folder / "mlperf_log_summary.txt").read_text()
    samples = np.array([int(ns) for ns in _LATENCY.findall(trace)], dtype=np.int64)
    return samples, {float(q) / 100: int(ns) for q, ns in _ESTIMATE.findall(summary)}


def _differs(samples: Any, quantile: float, printed: int) -> bool:
    return stats.early_stopping_estimate(np.sort(samples), quantile) != printed


if __name__ == "__main__":
    sys.exit(main())
