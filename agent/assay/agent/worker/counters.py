"""What the kernel counts about this process and its CPUs, read before and after the timed part."""

from __future__ import annotations

import os
import re
import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_CPU_LINE = re.compile(r"^cpu(\d+) (.+)$", re.MULTILINE)
_IDLE, _IOWAIT, _STEAL = 3, 4, 7
_TICKS = 8


@dataclass(frozen=True, slots=True)
class Usage:
    """What this process has used since it started; read right before and after each block."""

    cpu_ns: int
    involuntary_switches: int
    major_faults: int
    run_delay_ns: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Counters:
    """Clocks and the whole board, around the timed part. Ticks are by CPU, in the order of
    /proc/stat; None or empty where the kernel does not tell."""

    monotonic_ns: int
    realtime_ns: int
    boottime_ns: int
    cpu_ticks: Mapping[int, tuple[int, ...]]
    psi_cpu_some_us: int | None
    swapped_pages: int | None


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to the board in between; see :class:`assay.core.model.WorkerReport`."""

    clock_jump_ns: int
    swapped_pages: int
    steal_share: float | None
    psi_cpu_some_share: float | None
    background_share: float | None


def read_usage(proc: Path = Path("/proc")) -> Usage:
    """A few microseconds, and some for each thread's schedstat."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    delays = _run_delays(proc)
    return Usage(time.process_time_ns(), usage.ru_nivcsw, usage.ru_majflt, delays)


def run_delay_ns(before: Usage, after: Usage) -> int | None:
    """The longest time one of the threads waited for a CPU in between."""
    waited = [
        delay - before.run_delay_ns.get(thread, 0) for thread, delay in after.run_delay_ns.items()
    ]
    return max(waited, default=None)


def read_counters(proc: Path = Path("/proc")) -> Counters:
    """Reads three clocks and three files of /proc; under a millisecond."""
    return Counters(
        monotonic_ns=time.monotonic_ns(),
        realtime_ns=time.clock_gettime_ns(time.CLOCK_REALTIME),
        boottime_ns=time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        cpu_ticks=_cpu_ticks(_text(proc / "stat")),
        psi_cpu_some_us=_number(r"^some .*total=(\d+)", _text(proc / "pressure/cpu")),
        swapped_pages=_swapped(_text(proc / "vmstat")),
    )


def change(before: Counters, after: Counters, measure_cpus: tuple[int, ...]) -> Change:
    """The differences; pure. A clock jump is how far realtime or boottime left monotonic."""
    wall_ns = after.monotonic_ns - before.monotonic_ns
    real_ns = after.realtime_ns - before.realtime_ns
    boot_ns = after.boottime_ns - before.boottime_ns
    measured = frozenset(measure_cpus)
    return Change(
        clock_jump_ns=max((real_ns - wall_ns, boot_ns - wall_ns), key=abs),
        swapped_pages=_risen(before.swapped_pages, after.swapped_pages) or 0,
        steal_share=_tick_share(before, after, measured, (_STEAL,)),
        psi_cpu_some_share=_share(_risen(before.psi_cpu_some_us, after.psi_cpu_some_us), wall_ns),
        background_share=_background(before, after, measured),
    )


def _background(before: Counters, after: Counters, measured: frozenset[int]) -> float | None:
    others = frozenset(after.cpu_ticks) - measured
    idle = _tick_share(before, after, others, (_IDLE, _IOWAIT))
    return None if idle is None else 1 - idle


def _tick_share(
    before: Counters, after: Counters, cpus: frozenset[int], columns: tuple[int, ...]
) -> float | None:
    part = whole = 0
    for cpu in cpus & frozenset(before.cpu_ticks) & frozenset(after.cpu_ticks):
        risen = [b - a for a, b in zip(before.cpu_ticks[cpu], after.cpu_ticks[cpu], strict=True)]
        whole += sum(risen)
        part += sum(risen[column] for column in columns)
    return min(max(part / whole, 0.0), 1.0) if whole > 0 else None


def _share(part_us: int | None, wall_ns: int) -> float | None:
    return min(part_us * 1000 / wall_ns, 1.0) if part_us is not None and wall_ns > 0 else None


def _risen(before: int | None, after: int | None) -> int | None:
    return after - before if before is not None and after is not None else None


def _run_delays(proc: Path) -> dict[int, int]:
    """By thread, nanoseconds spent waiting for a CPU: second field of schedstat."""
    found: dict[int, int] = {}
    try:
        threads = os.listdir(proc / "self/task")
    except OSError:
        return found
    for thread in threads:
        fields = _text(proc / "self/task" / thread / "schedstat").split()
        if len(fields) == 3:
            found[int(thread)] = int(fields[1])
    return found


def _cpu_ticks(stat: str) -> dict[int, tuple[int, ...]]:
    found = {}
    for cpu, values in _CPU_LINE.findall(stat):
        ticks = tuple(int(value) for value in values.split()[:_TICKS])
        if len(ticks) == _TICKS:
            found[int(cpu)] = ticks
    return found


def _swapped(vmstat: str) -> int | None:
    counts = re.findall(r"^pswp(?:in|out) (\d+)$", vmstat, re.MULTILINE)
    return sum(int(count) for count in counts) if counts else None


def _number(pattern: str, text: str) -> int | None:
    found = re.search(pattern, text, re.MULTILINE)
    return int(found[1]) if found else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
