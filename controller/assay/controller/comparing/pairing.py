"""Results brought together by round, so that they can be compared."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from assay.controller.records import ResultRecord
from assay.core.model import Energy, Fidelity, Result, VerdictKind


class Statistic(enum.Enum):
    """What is compared; of every one of them less is better."""

    P50 = "p50"
    P90 = "p90"
    P99 = "p99"
    ENERGY = "energy"
    PEAK_MEMORY = "peak_memory"


@dataclass(frozen=True, slots=True)
class PairedRound:
    """One round: a side is None where its result is not VALID; canaries by their runtime."""

    baseline: float | None
    candidate: float | None
    canaries: Mapping[str, float] = field(default_factory=dict)


def pair_rounds(
    baseline: Iterable[ResultRecord],
    candidate: Iterable[ResultRecord],
    canaries: Iterable[ResultRecord],
    statistic: Statistic = Statistic.P50,
) -> list[PairedRound]:
    """The rounds in which both took part, oldest first."""
    left, right = _by_round(baseline), _by_round(candidate)
    seen: dict[str, dict[str, float]] = {}
    for record in canaries:
        value = valid_statistic(record.result, statistic)
        if value is not None:
            seen.setdefault(record.result.round_id, {})[record.result.run.runtime.name] = value
    shared = sorted(left.keys() & right.keys(), key=lambda r: (left[r].recorded_ns, r))
    return [
        PairedRound(
            valid_statistic(left[r].result, statistic),
            valid_statistic(right[r].result, statistic),
            seen.get(r, {}),
        )
        for r in shared
    ]


def environment_differences(left: Result, right: Result) -> list[str]:
    """The parts of the environment key that differ, e.g. ``governor: performance, ondemand``;
    results are compared only where there are none.

    Between two runtimes how close the timing comes is part of what is compared, as long as it was
    the worker that timed (docs/decisions/fidelity.md).
    """
    names = left.environment.keys() | right.environment.keys()
    if left.run.runtime.name != right.run.runtime.name:
        outside = {left.environment.get("fidelity"), right.environment.get("fidelity")}
        if Fidelity.EXTERNAL_BINARY.value not in outside:
            names -= {"fidelity"}
    return [
        f"{name}: {left.environment.get(name, '-')}, {right.environment.get(name, '-')}"
        for name in sorted(names)
        if left.environment.get(name) != right.environment.get(name)
    ]


def valid_statistic(result: Result, statistic: Statistic) -> float | None:
    """The figure of a VALID result; None where it is not VALID or has no such figure."""
    if result.verdict.kind is not VerdictKind.VALID:
        return None
    if statistic is Statistic.ENERGY:
        usable = isinstance(result.energy, Energy) and not result.energy.inconclusive
        return result.energy.total_j if usable and isinstance(result.energy, Energy) else None
    if statistic is Statistic.PEAK_MEMORY:
        return result.memory.process_peak_bytes if result.memory else None
    if result.latency is None:
        return None
    figures = {
        Statistic.P50: result.latency.p50_ns,
        Statistic.P90: result.latency.p90_ns,
        Statistic.P99: result.latency.p99_ns,
    }
    return figures[statistic]


def canary_shift(values: Sequence[float]) -> float | None:
    """How far a canary moved from the first half of its rounds to the second: the difference of
    the halves' medians in natural logarithms. None below four rounds."""
    half = len(values) // 2
    if half < 2:
        return None
    logs = np.log(np.asarray(values, dtype=np.float64))
    return float(np.median(logs[-half:]) - np.median(logs[:half]))


def _by_round(records: Iterable[ResultRecord]) -> dict[str, ResultRecord]:
    """The newest result of each round; a round may hold one of an earlier grant as well."""
    ordered = sorted(records, key=lambda r: (r.recorded_ns, r.seq))
    return {record.result.round_id: record for record in ordered}
