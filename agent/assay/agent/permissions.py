"""What this process may do to measure well; each question is answered by trying it."""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path

from assay.agent.sysroot import maybe_int, maybe_text
from assay.core.model import Absent

_UNLIMITED = -1
_CLEAR_PEAK = b"5"
_CAP_SYS_NICE = 23
_STATUS = Path("/proc/self/status")


def may_run_fifo(sysroot: Path = Path("/")) -> str | Absent:
    """How SCHED_FIFO may be used here, or why not; the caller's own policy is restored.

    With the default ``sched_rt_runtime_us`` of 950000 a busy FIFO thread is stopped for 50 ms in
    every second, so without -1 it is only good for short blocks.
    """
    before, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError as error:
        return Absent(f"{error.strerror} (run as root, or set LimitRTPRIO=1 in the unit)")
    os.sched_setscheduler(0, before, parameters)
    runtime_us = maybe_int(sysroot / "proc/sys/kernel/sched_rt_runtime_us")
    if runtime_us in (_UNLIMITED, None):
        return "undisturbed"
    return f"in blocks of at most 0.5 s (kernel.sched_rt_runtime_us is {runtime_us}, not -1)"


def may_reset_peak() -> str | Absent:
    """Whether a process may reset its own memory peak (``/proc/self/clear_refs``)."""
    try:
        descriptor = os.open("/proc/self/clear_refs", os.O_WRONLY)
    except OSError as error:
        return Absent(f"/proc/self/clear_refs: {error.strerror}")
    try:
        os.write(descriptor, _CLEAR_PEAK)
    except OSError as error:
        return Absent(f"/proc/self/clear_refs: {error.strerror}")
    finally:
        os.close(descriptor)
    return "writable"


def may_renice() -> str | Absent:
    """Whether the worker may be put before other work (nice -10); by capability and limit, since
    what was raised for a try might not be lowered again."""
    if _has_capability(_CAP_SYS_NICE):
        return "yes"
    limit, _ = resource.getrlimit(resource.RLIMIT_NICE)
    # RLIMIT_NICE is 20 - nice.
    return "yes" if limit >= 30 else Absent("set LimitNICE=-10 in the unit, or run as root")


def _has_capability(number: int) -> bool:
    """In a container root itself may lack it."""
    match = re.search(r"^CapEff:\s*([0-9a-f]+)", maybe_text(_STATUS) or "", re.MULTILINE)
    return match is not None and bool(int(match.group(1), 16) >> number & 1)
