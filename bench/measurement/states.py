"""Times one model in several states of the board, in turn; the harness of neighbour and sampler."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
from native_yardstick.models import Model

from assay.agent.runtimes.onnxruntime import OnnxRuntime
from assay.agent.worker import interpreter
from assay.agent.worker.isolation import Schedule
from assay.agent.worker.loop import ClosedLoop, new_buffer
from assay.core import stats
from assay.core.comparing.signed_rank import hodges_lehmann, interval
from assay.core.model import RuntimeSpec

BLOCK_NS = 400_000_000
State = Callable[[], AbstractContextManager[Any]]


@dataclass(slots=True)
class Ratios:
    """Of a state to the first one, formed within each run."""

    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)


def measure(
    model: Model, states: Mapping[str, State], runs: int, schedule: Schedule, rng: random.Random
) -> dict[str, Ratios]:
    """``runs`` blocks of 0.4 s in every state, in an order drawn anew each time, by the worker's
    loop on one session; the first state is the one the others are divided by."""
    session = OnnxRuntime.load(model.path, RuntimeSpec("onnxruntime"))
    (spec,) = session.inputs
    shape = tuple(size or 1 for size in spec.shape)
    feed = {spec.name: np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
    bound = session.bind([feed])
    loop, out = ClosedLoop(bound, (0,)), new_buffer()
    first, *others = states
    found = {name: Ratios() for name in others}
    with interpreter.quiet():
        for _ in range(runs):
            seen = {}
            for name in rng.sample(list(states), len(states)):
                with states[name](), schedule.block():
                    loop.run_block(len(out), BLOCK_NS // 4, out)
                    taken = loop.run_block(len(out), BLOCK_NS, out)
                samples = np.sort(np.frombuffer(out, dtype=np.int64)[:taken])
                seen[name] = stats.median(samples), stats.nearest_rank(samples, 0.99)
            for name in others:
                found[name].p50.append(seen[name][0] / seen[first][0])
                found[name].p99.append(seen[name][1] / seen[first][1])
    return found


def shown(ratios: list[float]) -> str:
    """Median and range."""
    return f"{median(ratios):.3f} ({min(ratios):.3f}–{max(ratios):.3f})"


def bounds(ratios: list[float], alpha: float = 0.05) -> tuple[float, float, float] | None:
    """Hodges–Lehmann estimate and exact signed-rank interval of a ratio; None below six runs."""
    logs = [math.log(ratio) for ratio in ratios]
    found = interval(logs, alpha)
    if found is None:
        return None
    return math.exp(hodges_lehmann(logs)), math.exp(found[0]), math.exp(found[1])
