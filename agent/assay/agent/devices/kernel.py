"""Counters the kernel keeps for the whole board: ``/proc/vmstat``, ``/proc/stat``, PSI."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from assay.agent.sysroot import maybe_text

# /proc/stat's cpu line, proc(5): guest time is inside user time already and is not added.
_TICK_FIELDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_PRESSURE = re.compile(r"^(some|full) .*total=(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class KernelCounters:
    """Since boot; ``ticks`` are of all CPUs together, None where the kernel does not tell."""

    major_faults: int | None = None
    swapped_pages: int | None = None
    steal_ticks: int | None = None
    idle_ticks: int | None = None
    total_ticks: int | None = None
    context_switches: int | None = None
    psi_cpu_some_us: int | None = None


def read_kernel_counters(sysroot: Path) -> KernelCounters:
    """Reads three files; never raises."""
    vmstat = parse_vmstat(maybe_text(sysroot / "proc/vmstat") or "")
    stat = maybe_text(sysroot / "proc/stat") or ""
    ticks = parse_cpu_ticks(stat)
    swaps = [vmstat[name] for name in ("pswpin", "pswpout") if name in vmstat]
    switches = re.search(r"^ctxt (\d+)", stat, re.MULTILINE)
    return KernelCounters(
        major_faults=vmstat.get("pgmajfault"),
        swapped_pages=sum(swaps) if swaps else None,
        steal_ticks=ticks.get("steal"),
        idle_ticks=ticks["idle"] + ticks.get("iowait", 0) if "idle" in ticks else None,
        total_ticks=sum(ticks.values()) or None,
        context_switches=int(switches.group(1)) if switches else None,
        psi_cpu_some_us=parse_pressure(maybe_text(sysroot / "proc/pressure/cpu") or "").get("some"),
    )


def parse_vmstat(text: str) -> dict[str, int]:
    """``/proc/vmstat`` by name."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def parse_cpu_ticks(text: str) -> dict[str, int]:
    """The summed ``cpu`` line of ``/proc/stat`` by field; {} where there is none."""
    for line in text.splitlines():
        name, *values = line.split() or [""]
        if name == "cpu":
            return {f: int(v) for f, v in zip(_TICK_FIELDS, values, strict=False) if v.isdigit()}
    return {}


def parse_pressure(text: str) -> dict[str, int]:
    """A PSI file's stalled time since boot in µs, by ``some`` and ``full``."""
    return {kind: int(total) for kind, total in _PRESSURE.findall(text)}
