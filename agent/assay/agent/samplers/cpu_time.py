"""What all CPUs together spent their time on, and how many tasks want one."""

from __future__ import annotations

import os
from pathlib import Path

from typing_extensions import Self

from assay.agent.devices.kernel import parse_cpu_ticks
from assay.agent.samplers.base import Channel, Reading, Sampler, sampler
from assay.agent.sysroot import read_text
from assay.core.errors import SamplerError
from assay.core.model import Absent

_BUSY = Channel("busy", "cpu_time", "s")
_STEAL = Channel("steal", "cpu_time", "s")
_IDLE = Channel("idle", "cpu_time", "s")
_LOAD = Channel("load1", "load", "1")
_RUNNABLE = Channel("runnable", "runnable_tasks", "1")


@sampler("cpu_time", unit="s", max_hz=10)
class CpuTime(Sampler):
    """CPU seconds since boot by kind (``steal``: taken by the hypervisor) and the run queue."""

    def __init__(self, sysroot: Path) -> None:
        self._stat = sysroot / "proc/stat"
        self._loadavg = sysroot / "proc/loadavg"
        self._tick_s = 1 / os.sysconf("SC_CLK_TCK")
        self.channels = (_BUSY, _STEAL, _IDLE, _LOAD, _RUNNABLE)

    @classmethod
    def probe(cls, sysroot: Path) -> Self | Absent:
        """Absent where an app may not read ``/proc/stat`` (Android 8 and later)."""
        found = cls(sysroot)
        try:
            found.read()
        except SamplerError as error:
            return Absent(str(error))
        return found

    def read(self) -> tuple[Reading, ...]:
        """Seconds since boot; the load average and the tasks that run or want to."""
        try:
            ticks = parse_cpu_ticks(read_text(self._stat))
        except OSError as error:
            raise SamplerError(f"proc/stat: {error.strerror}") from error
        if "idle" not in ticks:
            raise SamplerError("proc/stat: no cpu line")
        idle = ticks["idle"] + ticks.get("iowait", 0)
        steal = ticks.get("steal", 0)
        busy = sum(ticks.values()) - idle - steal
        times = zip((_BUSY, _STEAL, _IDLE), (busy, steal, idle), strict=True)
        return (*(Reading(c, n * self._tick_s) for c, n in times), *self._load())

    def _load(self) -> tuple[Reading, ...]:
        try:
            load1, _, _, tasks, *_ = read_text(self._loadavg).split()
            return Reading(_LOAD, float(load1)), Reading(_RUNNABLE, int(tasks.split("/")[0]))
        except (OSError, ValueError):
            return ()
