"""Waits until the board is as cool as its profile wants a run to start."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from assay.agent.devices.temperature import board_temperature_c

_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Settled:
    """How long the board was waited for and how warm it was then; None without a sensor."""

    waited_ns: int
    temperature_c: float | None
    timed_out: bool


def settle(
    sysroot: Path,
    start_limit_c: float | None,
    max_wait_ns: int,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], int] = time.monotonic_ns,
) -> Settled:
    """Waits until the temperature is at or below ``start_limit_c``, ``max_wait_ns`` at most.

    Never a fixed sleep: without a limit or a sensor it returns at once. ``timed_out`` is true
    where the board was still warmer than the limit at the end (guard ``hot_start``).
    """
    begin = clock()
    while True:
        temperature_c = board_temperature_c(sysroot)
        waited_ns = clock() - begin
        if start_limit_c is None or temperature_c is None or temperature_c <= start_limit_c:
            return Settled(waited_ns, temperature_c, timed_out=False)
        if waited_ns >= max_wait_ns:
            return Settled(waited_ns, temperature_c, timed_out=True)
        sleep(min(_POLL_S, (max_wait_ns - waited_ns) / 1e9))
