"""Keeps other work away from the measured thread, as far as the kernel lets us.

Pinned to CPUs the agent does not use, and real-time (SCHED_FIFO) where that does no harm: with the
default ``kernel.sched_rt_runtime_us`` a real-time thread that never sleeps is stalled for about 50
ms every second, so it then runs in blocks of at most half a second with a pause after each that
keeps its duty below 90 %. Everything else runs at nice -10. (sched(7); kernel doc
sched-rt-group.)
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from assay.core.model import Isolation

FIFO_BLOCK_NS = 500_000_000
FIFO_PAUSE_NS = 62_000_000
FIFO_QUERY_NS = 100_000_000
_LONGEST_BLOCK_NS = 60_000_000_000
_FIFO_PRIORITY = 10
_NICE = -10


class Schedule:
    """How this process's timed blocks are scheduled.

    ``fifo`` blocks run inside :meth:`block`; ``pause_ns`` is slept after each; ``block_ns`` is how
    long one may take at most. ``isolation`` is what was reached.
    """

    def __init__(self, isolation: Isolation, *, pauses: bool, query_ns: int = 0) -> None:
        self.isolation = isolation
        self.fifo = isolation is Isolation.FIFO_PINNED
        self.pause_ns = FIFO_PAUSE_NS if self.fifo and pauses else 0
        # A block ends with a query: one that re-warms before it and one that overruns are in it.
        self.block_ns = FIFO_BLOCK_NS - 2 * query_ns if self.fifo else _LONGEST_BLOCK_NS

    @contextlib.contextmanager
    def block(self) -> Iterator[None]:
        """Runs its body with the priority of a timed block, and pauses after it."""
        if not self.fifo:
            yield
            return
        _set_policy(os.SCHED_FIFO, _FIFO_PRIORITY)
        try:
            yield
        finally:
            _set_policy(os.SCHED_OTHER, 0)
            time.sleep(self.pause_ns / 1e9)


def pin(cpus: tuple[int, ...]) -> Isolation:
    """Confines this process to ``cpus`` and lowers its nice value, where that is allowed; PINNED
    where the board keeps another CPU."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    if not cpus:
        return Isolation.NONE
    everything = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, cpus)
    except OSError:
        return Isolation.NONE
    online = max(os.cpu_count() or 1, len(everything))
    return Isolation.PINNED if len(set(cpus)) < online else Isolation.NONE


def choose_schedule(
    pinned: Isolation,
    *,
    continuous: bool = False,
    query_ns: int = 0,
    rt_runtime: Path | None = None,
) -> Schedule:
    """The strongest schedule allowed: FIFO only where pinned, and where blocks are short (not
    ``continuous``, a query of at most 0.1 s) or the kernel never stalls real-time threads."""
    unlimited = _rt_runtime_us(rt_runtime) == -1
    short = not continuous and query_ns <= FIFO_QUERY_NS
    if pinned is Isolation.PINNED and (unlimited or short) and _fifo_allowed():
        query_ns = min(query_ns, FIFO_QUERY_NS)
        return Schedule(Isolation.FIFO_PINNED, pauses=not unlimited, query_ns=query_ns)
    return Schedule(pinned, pauses=False)


def _rt_runtime_us(path: Path | None) -> int | None:
    try:
        return int((path or Path("/proc/sys/kernel/sched_rt_runtime_us")).read_text())
    except (OSError, ValueError):
        return None


def _fifo_allowed() -> bool:
    try:
        _set_policy(os.SCHED_FIFO, _FIFO_PRIORITY)
        _set_policy(os.SCHED_OTHER, 0)
    except OSError:
        return False
    return True


def _set_policy(policy: int, priority: int) -> None:
    """For every thread: a runtime's own would else wait behind the measured one for ever."""
    for name in os.listdir("/proc/self/task"):
        # A thread that has just ended is none of ours.
        with contextlib.suppress(ProcessLookupError):
            os.sched_setscheduler(int(name), policy, os.sched_param(priority))
