"""The real clock, by a loop whose cycles do not change: cpufreq can tell the request instead.

A Raspberry Pi's kernel said 600 MHz while the firmware ran 700. The fastest of several short
loops is taken, so that an interrupt does not look like a slower clock.
"""

from __future__ import annotations

import time

_ROUNDS = 9
_STEPS = 40_000


def probe_ns(rounds: int = _ROUNDS) -> int:
    """Nanoseconds of the fastest round; about 2 ms each on a 2 GHz core."""
    return min(_round_ns() for _ in range(rounds))


def _round_ns() -> int:
    begin = time.perf_counter_ns()
    value = 1
    for _ in range(_STEPS):
        value = (value * 5 + 1) & 0xFFFF
    return time.perf_counter_ns() - begin
