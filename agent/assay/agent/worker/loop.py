"""The timed loops. Between the two clock readings stands the runtime's call and nothing else.

The clock is ``perf_counter_ns`` (CLOCK_MONOTONIC on Linux: one clock with the sampler's stamps).
What is computed from the readings is computed after the second one, and everything that is not an
integer, after the block.
"""

from __future__ import annotations

import itertools
import time
from array import array
from collections.abc import Iterator, Sequence
from typing import Protocol

from assay.agent.runtimes.base import Bound, Call

_CAPACITY = 1 << 18
LATE_NS = 100_000
"""How much later than it was to a query may begin without counting as late."""
LEAD_NS = 1_000_000
"""From the beginning of an open block to the time its gaps count from."""

_SPIN_NS = 200_000


class QueryLoop(Protocol):
    """Runs queries back to back and records how long each took; a native loop is another one."""

    def run_block(self, limit: int, max_ns: int, out: array[int]) -> int:
        """Runs until ``limit`` queries are done or ``max_ns`` are over, checked after each query;
        returns how many, their nanoseconds in ``out``. At least one is run."""
        ...


class ScheduledLoop(QueryLoop, Protocol):
    """Queries at times fixed beforehand, whether or not the one before has ended.

    ``late`` counts those begun more than 0.1 ms after they were to, ``last_late_ns`` is how late
    the last one began: in an overload, the length of the queue.
    """

    late: int
    last_late_ns: int


def new_buffer(capacity: int = _CAPACITY) -> array[int]:
    """Room for one block's samples."""
    return array("q", bytes(8 * capacity))


class ClosedLoop:
    """Queries of one bound set in a given order, again and again; the next block goes on where
    the last one ended."""

    def __init__(self, bound: Bound, order: Sequence[int]) -> None:
        calls = [bound.calls[i] for i in order]
        self._calls: Iterator[Call] = itertools.cycle(calls)
        self._staged: Iterator[tuple[Call, Call]] | None = None
        if bound.stages is not None:
            stages = [bound.stages[i] for i in order]
            self._staged = itertools.cycle(list(zip(stages, calls, strict=True)))

    def run_block(self, limit: int, max_ns: int, out: array[int]) -> int:
        """See :class:`QueryLoop`."""
        limit = min(limit, len(out))
        if self._staged is None:
            return _run(itertools.islice(self._calls, limit), max_ns, out)
        return _run_staged(itertools.islice(self._staged, limit), max_ns, out)


def _run(calls: Iterator[Call], max_ns: int, out: array[int]) -> int:
    clock = time.perf_counter_ns
    deadline = clock() + max_ns
    taken = 0
    for taken, call in enumerate(calls):
        begin = clock()
        call()
        end = clock()
        out[taken] = end - begin
        if end >= deadline:
            break
    return taken + 1


def _run_staged(pairs: Iterator[tuple[Call, Call]], max_ns: int, out: array[int]) -> int:
    clock = time.perf_counter_ns
    deadline = clock() + max_ns
    taken = 0
    for taken, (stage, call) in enumerate(pairs):
        stage()
        begin = clock()
        call()
        end = clock()
        out[taken] = end - begin
        if end >= deadline:
            break
    return taken + 1


class OpenLoop:
    """A :class:`ScheduledLoop`. With ``from_intended`` a sample is the response time, from when the
    query was to start until it ended; else the service time of a paced load. One block is one
    schedule: it begins anew with each.
    """

    def __init__(
        self, bound: Bound, order: Sequence[int], gaps_ns: Iterator[int], *, from_intended: bool
    ) -> None:
        stages = bound.stages or (None,) * len(bound.calls)
        self._pairs = itertools.cycle([(stages[i], bound.calls[i]) for i in order])
        self._gaps_ns = gaps_ns
        self._from_intended = from_intended
        self.late = 0
        self.last_late_ns = 0

    def run_block(self, limit: int, max_ns: int, out: array[int]) -> int:
        """See :class:`QueryLoop`."""
        clock = time.perf_counter_ns
        limit = min(limit, len(out))
        intended = clock() + LEAD_NS
        deadline = intended + max_ns
        taken = late = 0
        for taken, (stage, call) in enumerate(itertools.islice(self._pairs, limit)):
            intended += next(self._gaps_ns)
            if stage is not None:
                stage()
            _wait_until(intended, clock())
            begin = clock()
            call()
            end = clock()
            out[taken] = end - (intended if self._from_intended else begin)
            late = begin - intended
            self.late += late > LATE_NS
            if end >= deadline:
                break
        self.last_late_ns = late
        return taken + 1


def _wait_until(when_ns: int, now_ns: int) -> None:
    """Sleeps until shortly before and spins the rest: a timer alone comes 50 µs late."""
    if when_ns - now_ns > 2 * _SPIN_NS:
        time.sleep((when_ns - now_ns - _SPIN_NS) / 1e9)
    while time.perf_counter_ns() < when_ns:
        pass


def poisson_gaps_ns(queries_per_s: float, seed: int) -> Iterator[int]:
    """Gaps of a seeded Poisson process."""
    import numpy as np

    rng = np.random.default_rng(seed)
    while True:
        yield from (rng.exponential(1e9 / queries_per_s, 1024)).astype(np.int64).tolist()


def even_gaps_ns(queries_per_s: float) -> Iterator[int]:
    """Equal gaps."""
    return itertools.repeat(round(1e9 / queries_per_s))
