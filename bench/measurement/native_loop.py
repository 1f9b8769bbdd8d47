"""What does the harness add to an inference? Ways to time onnxruntime against a C program.

    python bench/measurement/native_loop.py [--runs 11] [--cpu N] [--settings | --tflite FILE]

The yardstick (native_yardstick/yardstick.c) is a plain C program over the same libonnxruntime that
shares no line with the agent. It runs both ways the C API offers, `Run` and `RunWithBinding`; the
faster of the two, per model, is what the others are divided by. In every run each contender is a
fresh process pinned to one core (SCHED_FIFO where that is allowed), in an order drawn anew, with
one thread, one sample and the same session settings. Ratios are formed within a run; their medians
are printed with their ranges.

--settings times session settings against the default ones instead, under native_loop and under
raw_binding: a setting that moved one and not the other would make the two incomparable.

--tflite times LiteRT's compiled model in the native loop against the Interpreter's invoke, on FILE.

Exit code 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from native_yardstick.models import Model, build

from assay.agent.native.library import onnxruntime_library
from assay.core.model import Absent

HERE = Path(__file__).parent / "native_yardstick"
IN_C = {"C Run": "run", "C RunWithBinding": "binding"}
#: Highest ratio to the C program, per model; a way without an entry is held to nothing.
TARGETS: Mapping[str, Mapping[str, float]] = {
    "native_loop": {"tiny": 1.02, "small": 1.02, "medium": 1.02},
    "raw_binding": {"tiny": 1.6, "small": 1.15, "medium": 1.02},
    "session.run": {},
}
LITERT_YARDSTICK = "litert_invoke"
LITERT_QUERIES = 2000
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "inter-op threads 0": {"inter_op_threads": 0},
    "no spinning": {"spinning": False},
    "no memory pattern": {"memory_pattern": False},
    "no arena": {"memory_arena": False},
    "basic graph level": {"graph_level": 1},
    "denormal inputs": {"denormal_inputs": True},
    "denormals flushed": {
        "denormal_inputs": True,
        "config": {"session.set_denormal_as_zero": "1"},
    },
}
Times = dict[tuple[str, str], list[float]]


@dataclass(frozen=True, slots=True)
class Contender:
    """A command: ``before``, then the model, the warm-up and the queries, then ``after``."""

    before: tuple[str, ...]
    after: tuple[str, ...] = ()


def main() -> int:
    """Builds, measures, prints; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--settings", action="store_true", help="time session settings instead")
    parser.add_argument("--tflite", type=Path, metavar="FILE", help="time LiteRT on it instead")
    arguments = parser.parse_args()
    if arguments.tflite:
        return _litert(arguments)
    with tempfile.TemporaryDirectory(prefix="assay-native-") as scratch:
        models = build(Path(scratch))
        contenders = _settings() if arguments.settings else _contenders(Path(scratch))
        times = _measure(models, contenders, arguments)
    if arguments.settings:
        _print_settings(models, times)
        return 0
    return _print_ratios(models, times, tuple(IN_C), TARGETS)


def _litert(arguments: argparse.Namespace) -> int:
    models = (Model(arguments.tflite.stem, LITERT_QUERIES, arguments.tflite),)
    script = str(HERE / "contender.py")
    names = (LITERT_YARDSTICK, "litert_loop")
    contenders = {name: Contender((sys.executable, script, name)) for name in names}
    times = _measure(models, contenders, arguments)
    return _print_ratios(models, times, names[:1], {names[1]: {}})


def _contenders(scratch: Path) -> dict[str, Contender]:
    wheel = onnxruntime_library()
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if isinstance(wheel, Absent) or compiler is None:
        raise SystemExit(f"needs onnxruntime and a C compiler: {wheel}")
    program = scratch / "yardstick"
    command = [compiler, "-O2", "-o", str(program), str(HERE / "yardstick.c"), "-ldl"]
    subprocess.run(command, check=True)
    library = str(wheel.candidates[0])
    made = {name: Contender((str(program), library, how)) for name, how in IN_C.items()}
    script = str(HERE / "contender.py")
    return made | {way: Contender((sys.executable, script, way)) for way in TARGETS}


def _settings() -> dict[str, Contender]:
    script = str(HERE / "contender.py")
    return {
        f"{way}/{name}": Contender((sys.executable, script, way), (json.dumps(chosen),))
        for name, chosen in SETTINGS.items()
        for way in ("native_loop", "raw_binding")
    }


def _measure(
    models: Sequence[Model], contenders: Mapping[str, Contender], arguments: argparse.Namespace
) -> Times:
    """p50 in µs of every contender in every run, run by run."""
    rng = random.Random(arguments.seed)
    times: Times = {}
    started = time.monotonic()
    for run in range(arguments.runs):
        for model in models:
            order = list(contenders)
            rng.shuffle(order)
            for name in order:
                p50_us = _p50_us(contenders[name], model, arguments.cpu)
                times.setdefault((model.name, name), []).append(p50_us)
        print(f"run {run + 1} of {arguments.runs}, {time.monotonic() - started:.0f} s",
              file=sys.stderr)  # fmt: skip
    return times


def _p50_us(contender: Contender, model: Model, cpu: int) -> float:
    timed = (str(model.path), str(model.queries // 4), str(model.queries))
    command = [*contender.before, *timed, *contender.after]

    def undisturbed() -> None:
        os.sched_setaffinity(0, {cpu})
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))

    done = subprocess.run(command, stdout=subprocess.PIPE, preexec_fn=undisturbed, check=True)
    return float(np.median(np.frombuffer(done.stdout, dtype=np.int64))) / 1e3


def _print_ratios(
    models: Sequence[Model],
    times: Times,
    yardsticks: tuple[str, ...],
    targets: Mapping[str, Mapping[str, float]],
) -> int:
    missed = 0
    print(f"{'model':8}{'way':18}{'p50 µs':>10}{'ratio':>8}  {'range':14} target")
    for model in models:
        p50_us = {name: median(times[model.name, name]) for name in yardsticks}
        yardstick = min(p50_us, key=p50_us.__getitem__)
        for way in (*yardsticks, *targets):
            taken = times[model.name, way]
            ratios = [a / b for a, b in zip(taken, times[model.name, yardstick], strict=True)]
            ratio, target = median(ratios), targets.get(way, {}).get(model.name)
            verdict = "" if target is None else f"≤ {target}"
            if target is not None and ratio > target:
                verdict += " MISSED"
                missed += 1
            spread = f"{min(ratios):.3f}–{max(ratios):.3f}"
            shown = f"{model.name[:7]:8}{way:18}{median(taken):10.2f}{ratio:8.3f}"
            print(f"{shown}  {spread:14} {verdict}")
    print(f"medians of {len(taken)} runs; ratio to the faster yardstick; {missed} targets missed")
    return 1 if missed else 0


def _print_settings(models: Sequence[Model], times: Times) -> None:
    print(f"{'model':8}{'setting':20}{'native µs':>10}{'to default':>11}"
          f"{'raw µs':>10}{'to default':>11}{'raw/native':>11}")  # fmt: skip
    for model in models:
        for name in SETTINGS:
            native = times[model.name, f"native_loop/{name}"]
            raw = times[model.name, f"raw_binding/{name}"]
            native_0 = times[model.name, "native_loop/default"]
            raw_0 = times[model.name, "raw_binding/default"]
            print(
                f"{model.name:8}{name:20}{median(native):10.2f}{_ratio(native, native_0):11.3f}"
                f"{median(raw):10.2f}{_ratio(raw, raw_0):11.3f}{_ratio(raw, native):11.3f}"
            )


def _ratio(taken: list[float], base: list[float]) -> float:
    return median(a / b for a, b in zip(taken, base, strict=True))


if __name__ == "__main__":
    raise SystemExit(main())
