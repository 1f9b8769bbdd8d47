"""The real clock, by a loop whose cycles do not change: cpufreq can tell the request instead.

A Raspberry Pi's kernel said 600 MHz while the firmware ran 700. The loop is a checksum over a
buffer that fits the first cache, and allocates nothing: the state of Python's heap must not count.
The fastest of several rounds is taken, so that an interrupt does not look like a slower clock.
"""

from __future__ import annotations

import time
import zlib

_ROUNDS = 15
_BUFFER = bytes(range(256)) * 64
_PASSES = 64


def probe_ns(rounds: int = _ROUNDS) -> int:
    """Nanoseconds of the fastest round over 1 MiB; about half a millisecond each on a PC."""
    return min(_round_ns() for _ in range(rounds))


def _round_ns() -> int:
    checksum, data, passes = zlib.crc32, _BUFFER, _PASSES
    begin = time.perf_counter_ns()
    for _ in range(passes):
        checksum(data)
    return time.perf_counter_ns() - begin
