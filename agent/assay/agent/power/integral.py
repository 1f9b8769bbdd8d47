"""Joules between two moments, from power readings or from a counter; pure."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from assay.agent.samplers.recording import Series


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of CLOCK_MONOTONIC time in ns."""

    start_ns: int
    end_ns: int

    @property
    def seconds(self) -> float:
        """Its length."""
        return (self.end_ns - self.start_ns) / 1e9


def integrate(readings: Series, window: Window) -> float | None:
    """Joules in ``window``: trapezoids with interpolation at the edges, or a counter's rise.

    None where the readings do not reach from one edge to the other.
    """
    t_ns, value = readings.t_ns, _unwrapped(readings)
    if len(t_ns) < 2 or t_ns[0] > window.start_ns or t_ns[-1] < window.end_ns:
        return None
    if window.end_ns <= window.start_ns:
        return None
    at_start, at_end = (_at(t_ns, value, edge) for edge in (window.start_ns, window.end_ns))
    if readings.quantity == "energy":
        return at_end - at_start
    first, last = bisect_right(t_ns, window.start_ns), bisect_left(t_ns, window.end_ns)
    times = [window.start_ns, *t_ns[first:last], window.end_ns]
    watts = [at_start, *value[first:last], at_end]
    pairs = zip(pairwise(times), pairwise(watts), strict=True)
    return math.fsum((t1 - t0) * (p0 + p1) / 2 for (t0, t1), (p0, p1) in pairs) / 1e9


def unwrap(previous: float, current: float, wrap: float) -> float:
    """How much a counter rose from ``previous`` to ``current`` if it starts anew at ``wrap``."""
    return current - previous if current >= previous else current + wrap - previous


def distinct_readings(value: Sequence[float]) -> int:
    """How often a sensor was seen to update: runs of equal values count once."""
    return 1 + sum(a != b for a, b in pairwise(value)) if value else 0


def _unwrapped(readings: Series) -> Sequence[float]:
    wrap_j = readings.meter.wrap_j if readings.meter else None
    if wrap_j is None or not readings.value:
        return readings.value
    total = readings.value[0]
    rising = [total]
    for previous, current in pairwise(readings.value):
        total += unwrap(previous, current, wrap_j)
        rising.append(total)
    return rising


def _at(t_ns: Sequence[int], value: Sequence[float], when_ns: int) -> float:
    """Linear interpolation; ``when_ns`` lies within ``t_ns``."""
    right = bisect_left(t_ns, when_ns)
    if t_ns[right] == when_ns:
        return value[right]
    t0, t1 = t_ns[right - 1], t_ns[right]
    return value[right - 1] + (value[right] - value[right - 1]) * (when_ns - t0) / (t1 - t0)
