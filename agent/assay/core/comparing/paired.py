"""What a comparison is made of: figures of which less is better, paired by round."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from assay.core.model import Absent, Energy, Fidelity, Latency, MemorySplit


class Statistic(enum.Enum):
    """What is compared; of every one of them less is better."""

    P50 = "p50"
    P90 = "p90"
    P99 = "p99"
    ENERGY = "energy"
    PEAK_MEMORY = "peak_memory"


class Figures(Protocol):
    """What a run yielded, as a stored result and a measured one have it alike."""

    @property
    def latency(self) -> Latency | None:
        """Of the timed part."""
        ...

    @property
    def memory(self) -> MemorySplit | None:
        """Of the worker."""
        ...

    @property
    def energy(self) -> Energy | Absent:
        """Of an inference."""
        ...


@dataclass(frozen=True, slots=True)
class PairedRound:
    """One round: a side is None where its result is not VALID; canaries by their runtime."""

    baseline: float | None
    candidate: float | None
    canaries: Mapping[str, float] = field(default_factory=dict)


def figure_of(run: Figures, statistic: Statistic) -> float | None:
    """The figure itself, whatever its verdict; None where there is none."""
    if statistic is Statistic.ENERGY:
        usable = isinstance(run.energy, Energy) and not run.energy.inconclusive
        return run.energy.total_j if usable and isinstance(run.energy, Energy) else None
    if statistic is Statistic.PEAK_MEMORY:
        return run.memory.process_peak_bytes if run.memory else None
    if run.latency is None:
        return None
    if statistic is Statistic.P50:
        return run.latency.p50_ns
    return run.latency.p90_ns if statistic is Statistic.P90 else run.latency.p99_ns


def canary_shift(values: Sequence[float]) -> float | None:
    """How far a canary moved from the first half of its rounds to the second: the difference of
    the halves' medians in natural logarithms. None below four rounds."""
    import numpy as np

    half = len(values) // 2
    if half < 2:
        return None
    logs = np.log(np.asarray(values, dtype=np.float64))
    return float(np.median(logs[-half:]) - np.median(logs[:half]))


def differences(
    left: Mapping[str, str], right: Mapping[str, str], *, same_runtime: bool
) -> list[str]:
    """The parts of two environment keys that differ, e.g. ``governor: performance, ondemand``.

    Between two runtimes how close the timing comes is part of what is compared, as long as it was
    the worker that timed (docs/decisions/fidelity.md).
    """
    names = left.keys() | right.keys()
    if not same_runtime:
        outside = {left.get("fidelity"), right.get("fidelity")}
        if Fidelity.EXTERNAL_BINARY.value not in outside:
            names -= {"fidelity"}
    return [
        f"{name}: {left.get(name, '-')}, {right.get(name, '-')}"
        for name in sorted(names)
        if left.get(name) != right.get(name)
    ]
