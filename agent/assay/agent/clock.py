"""The two clocks an agent lives by; tests bring their own."""

from __future__ import annotations

import time


class Clock:
    """The kernel's clocks."""

    def boottime_ns(self) -> int:
        """CLOCK_BOOTTIME: counts on through suspend and never jumps; leases are counted by it."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def unix_ns(self) -> int:
        """The wall clock, which may be wrong: for people only."""
        return time.time_ns()
