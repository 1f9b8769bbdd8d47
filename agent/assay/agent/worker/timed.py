"""Warm-up and the timed part: blocks, the pauses between them, and what is kept of them."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from assay.agent.worker.counters import Usage, read_usage, run_delay_ns
from assay.agent.worker.isolation import Schedule
from assay.agent.worker.loop import QueryLoop, new_buffer
from assay.agent.worker.stopping import Stop, StopRule, Warmth, judge_warmup
from assay.core import stats
from assay.core.model import LONGEST_QUIET_NS, Fidelity, Latency, Mode, Profile
from assay.core.trace import Reservoir

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BLOCK_NS = 500_000_000
_REWARM_QUERIES = 3
_REWARM_NS = 1_000_000
_REWARM_FIRST_NS = 200_000_000
_STATED = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}


@dataclass(frozen=True, slots=True)
class WarmUp:
    """How warm-up went."""

    elapsed_ns: int
    queries: int
    steady: bool
    block_medians_ns: tuple[float, ...]


@dataclass(slots=True)
class Timed:
    """The timed part. Durations and counts are over its blocks, pauses left out."""

    reservoir: Reservoir
    duration_ns: int = 0
    cpu_ns: int = 0
    involuntary_switches: int = 0
    major_faults: int = 0
    run_delay_ns: int | None = None
    total_ns: int = 0
    minimum_ns: int = 0
    maximum_ns: int = 0
    stop: Stop | None = None
    block_start_ns: list[int] = field(default_factory=list)
    block_queries: list[int] = field(default_factory=list)
    _block_medians_ns: list[float] = field(default_factory=list)

    def add(self, samples: NDArray[np.int64]) -> None:
        """Takes one block's samples."""
        low, high = int(samples.min()), int(samples.max())
        self.minimum_ns = low if not self.reservoir.seen else min(self.minimum_ns, low)
        self.maximum_ns = max(self.maximum_ns, high)
        self.total_ns += int(samples.sum())
        self.reservoir.add(samples)
        self.block_queries.append(len(samples))
        self._block_medians_ns.append(stats.median(samples))

    def use(self, before: Usage, after: Usage) -> None:
        """Adds what one block used; reading it costs about as much as it distorts, some 20 µs."""
        self.cpu_ns += after.cpu_ns - before.cpu_ns
        self.involuntary_switches += after.involuntary_switches - before.involuntary_switches
        self.major_faults += after.major_faults - before.major_faults
        waited = run_delay_ns(before, after)
        if waited is not None:
            self.run_delay_ns = (self.run_delay_ns or 0) + waited

    def period_medians_ns(self, period_ns: int) -> list[float]:
        """The median of the block medians in each period from the first block's start on; a
        period without a block has no entry."""
        periods: dict[int, list[float]] = {}
        for start, value in zip(self.block_start_ns, self._block_medians_ns, strict=True):
            periods.setdefault((start - self.block_start_ns[0]) // period_ns, []).append(value)
        return [stats.median(values) for _, values in sorted(periods.items())]


class Timer:
    """Runs blocks of one loop under one schedule. The buffer is reused: its samples are copied.

    ``warm_loop`` is what warms up, where the timed one is not fit for it (an open loop).
    """

    def __init__(
        self, loop: QueryLoop, schedule: Schedule, warm_loop: QueryLoop | None = None
    ) -> None:
        self._loop = loop
        self._warm_loop = warm_loop or loop
        self._schedule = schedule
        self._out = new_buffer()
        self._scratch = array("q", bytes(8 * _REWARM_QUERIES))

    def warm_up(self, profile: Profile, mode: Mode) -> WarmUp:
        """Runs until the latency holds still or the profile's patience is over."""
        begin = time.perf_counter_ns()
        medians: list[float] = []
        queries = 0
        while True:
            samples = self._warm_block(profile)
            queries += len(samples)
            medians.append(stats.median(samples))
            elapsed = time.perf_counter_ns() - begin
            warmth = judge_warmup(profile, mode, elapsed, queries, medians)
            if warmth is not Warmth.WARMING:
                return WarmUp(elapsed, queries, warmth is Warmth.STEADY, tuple(medians))

    def measure(
        self,
        profile: Profile,
        seed: int,
        block_ns: int | None = None,
        pause: Callable[[], None] | None = None,
        quiet_ns: int = LONGEST_QUIET_NS,
    ) -> Timed:
        """Runs timed blocks until the stop rule says so; of ``block_ns``, or by default of half a
        second or a twentieth of the shortest time. ``pause`` is called between two of them, before
        ``quiet_ns`` have passed without."""
        quiet_since, block_took_ns = time.perf_counter_ns(), 0
        self._rewarm()
        timed = Timed(Reservoir(seed))
        rule = StopRule(profile)
        wanted_ns = block_ns or max(_BLOCK_NS, profile.t_min_ns // 20)
        while timed.stop is None:
            left_ns = max(profile.t_max_ns - timed.duration_ns, 1)
            longest_ns = min(wanted_ns, left_ns, self._schedule.block_ns)
            due_ns = quiet_since + quiet_ns - max(longest_ns, block_took_ns)
            if pause is not None and timed.block_queries and time.perf_counter_ns() > due_ns:
                pause()
                quiet_since = time.perf_counter_ns()
                self._rewarm()
            begin_ns = time.perf_counter_ns()
            self._timed_block(timed, longest_ns)
            block_took_ns = time.perf_counter_ns() - begin_ns
            timed.stop = rule.decide(
                timed.duration_ns, timed.reservoir.seen, lambda: _half_width(timed, seed)
            )
        return timed

    def floor_ns(self, queries: int) -> float:
        """The median of one block of ``queries``."""
        with self._schedule.block():
            taken = self._loop.run_block(queries, self._schedule.block_ns, self._out)
        return stats.median(self._copied(taken))

    def _warm_block(self, profile: Profile) -> NDArray[np.int64]:
        """At least the profile's block time and queries, in as many pieces as the schedule wants;
        no longer than the whole patience."""
        import numpy as np

        parts: list[NDArray[np.int64]] = []
        spent = queries = 0
        while spent < profile.warmup_block_ns or queries < profile.warmup_block_queries:
            piece_ns = min(max(profile.warmup_block_ns - spent, 1), self._schedule.block_ns)
            begin = time.perf_counter_ns()
            with self._schedule.block():
                taken = self._warm_loop.run_block(len(self._out), piece_ns, self._out)
            parts.append(self._copied(taken))
            queries += taken
            spent += time.perf_counter_ns() - begin
            if spent >= profile.warmup_max_ns:
                break
        return np.concatenate(parts)

    def _rewarm(self) -> None:
        """After a pause of any length: caches and clocks as they are under load."""
        with self._schedule.block():
            self._warm_loop.run_block(len(self._out), _REWARM_FIRST_NS, self._out)

    def _timed_block(self, timed: Timed, max_ns: int) -> None:
        with self._schedule.block():
            # What ran between the blocks has cooled the caches: a few queries are not counted.
            self._warm_loop.run_block(_REWARM_QUERIES, _REWARM_NS, self._scratch)
            before, begin = read_usage(), time.perf_counter_ns()
            taken = self._loop.run_block(len(self._out), max_ns, self._out)
            end, after = time.perf_counter_ns(), read_usage()
        timed.duration_ns += end - begin
        timed.block_start_ns.append(begin)
        timed.use(before, after)
        timed.add(self._copied(taken))

    def _copied(self, taken: int) -> NDArray[np.int64]:
        import numpy as np

        return np.frombuffer(self._out, dtype=np.int64)[:taken].copy()


def latency_of(
    timed: Timed,
    seed: int,
    *,
    fidelity: Fidelity,
    harness_floor_ns: float,
    binding_floor_ns: float | None,
    response_time: bool,
) -> Latency:
    """The statistics of a timed part; where not all samples were kept, those that need order or
    rank are of the reservoir, count, mean and extremes of all."""
    import numpy as np

    samples = timed.reservoir.samples()
    ordered = np.sort(samples)
    interval = stats.median_interval(samples, seed)
    spread = stats.spread(samples)
    rank = {name: stats.percentile(ordered, q) for name, q in _STATED.items()}
    estimates = {name: stats.early_stopping_estimate(ordered, q) for name, q in _STATED.items()}
    seen = timed.reservoir.seen
    return Latency(
        n=seen,
        p50_ns=stats.nearest_rank(ordered, 0.5),
        p50_low_ns=interval.low,
        p50_high_ns=interval.high,
        p90_ns=rank["p90"],
        p95_ns=rank["p95"],
        p99_ns=rank["p99"],
        p999_ns=rank["p999"],
        mean_ns=timed.total_ns / seen,
        min_ns=timed.minimum_ns,
        max_ns=timed.maximum_ns,
        mad_ns=spread.mad,
        cv=spread.cv,
        outliers=round(spread.outliers * seen / len(samples)),
        fidelity=fidelity,
        harness_floor_ns=harness_floor_ns,
        binding_floor_ns=binding_floor_ns,
        duration_ns=timed.duration_ns,
        response_time=response_time,
        early_stopping_ns={name: value for name, value in estimates.items() if value is not None},
        outlier_time_share=spread.outlier_share,
    )


def _half_width(timed: Timed, seed: int) -> float:
    samples = timed.reservoir.samples()
    return stats.median_interval(samples, seed).half_width(stats.median(samples))
