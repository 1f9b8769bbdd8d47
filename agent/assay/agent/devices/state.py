"""What a board's counters and sensors say before and after a run, and what changed between.

:func:`read_state` takes a few milliseconds and reads only; :func:`difference` is pure. A field
is None (or a mapping empty) where the board does not tell.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from assay.agent.devices.clocks import clock_domains, clocks_locked, governors, read_clock_hz
from assay.agent.devices.cooling import read_cooling
from assay.agent.devices.kernel import KernelCounters, read_kernel_counters
from assay.agent.devices.temperature import board_temperature_c
from assay.agent.devices.throttling import read_throttled, throttled_now, throttled_since_boot
from assay.agent.sysroot import find, maybe_int, maybe_text
from assay.core.errors import SamplerError


@dataclass(frozen=True, slots=True)
class DeviceState:
    """One look at the board at ``t_ns`` (CLOCK_MONOTONIC); counters are since boot.

    ``throttle_bits`` are the Pi firmware's; ``over_current_events`` the Jetson's by name;
    ``thermal_throttle_events`` the sum of x86 core and package counters; ``cooling`` holds the
    state of each cooling device that means throttling; ``clocks_hz`` is by clock domain, and
    ``clocks_locked`` where each may run at one clock only (``jetson_clocks``).
    """

    t_ns: int
    temperature_c: float | None = None
    clocks_hz: Mapping[str, int] = field(default_factory=dict)
    governors: tuple[str, ...] = ()
    throttle_bits: int | None = None
    over_current_events: Mapping[str, int] = field(default_factory=dict)
    thermal_throttle_events: int | None = None
    cooling: Mapping[str, int] = field(default_factory=dict)
    kernel: KernelCounters = field(default_factory=KernelCounters)
    on_battery: bool | None = None
    clocks_locked: bool | None = None

    @property
    def throttled(self) -> tuple[str, ...]:
        """What holds a Pi's processor back at this moment."""
        return throttled_now(self.throttle_bits or 0)

    @property
    def throttle_history(self) -> tuple[str, ...]:
        """What has held a Pi's processor back since boot."""
        return throttled_since_boot(self.throttle_bits or 0)


@dataclass(frozen=True, slots=True)
class StateChange:
    """What happened to the board between two looks.

    ``throttled`` names every proven cause; where ``throttle_history_dirty`` a Pi's sticky bit
    was set before already, so that only live polling can prove the run clean.
    ``over_current_rate_hz`` moves on healthy boards and means something only against the idle
    rate. Shares are of all CPUs' time, 0 to 1; a counter that went backwards is None.
    """

    duration_ns: int
    throttled: tuple[str, ...] = ()
    throttle_history_dirty: bool = False
    over_current_rate_hz: Mapping[str, float] = field(default_factory=dict)
    governor_changed: bool = False
    major_faults: int | None = None
    swapped_pages: int | None = None
    steal_share: float | None = None
    psi_cpu_some_share: float | None = None
    context_switches: int | None = None
    temperature_rise_c: float | None = None
    clock_moved_share: float | None = None


def read_state(
    sysroot: Path = Path("/"), clock: Callable[[], int] = time.monotonic_ns
) -> DeviceState:
    """Looks at the board; never raises, whatever does not answer is None or missing."""
    return DeviceState(
        t_ns=clock(),
        temperature_c=board_temperature_c(sysroot),
        clocks_hz=_clocks(sysroot),
        governors=governors(sysroot),
        throttle_bits=_throttle_bits(sysroot),
        over_current_events=read_over_current_events(sysroot),
        thermal_throttle_events=_thermal_throttle_events(sysroot),
        cooling=read_cooling(sysroot),
        kernel=read_kernel_counters(sysroot),
        on_battery=_on_battery(sysroot),
        clocks_locked=clocks_locked(sysroot),
    )


def difference(before: DeviceState, after: DeviceState) -> StateChange:
    """What changed from ``before`` to ``after``; pure."""
    old, new = before.kernel, after.kernel
    duration_ns = after.t_ns - before.t_ns
    return StateChange(
        duration_ns=duration_ns,
        throttled=_throttled(before, after),
        throttle_history_dirty=bool(before.throttle_history),
        over_current_rate_hz=_rates(before, after, duration_ns),
        governor_changed=before.governors != after.governors,
        major_faults=_risen(old.major_faults, new.major_faults),
        swapped_pages=_risen(old.swapped_pages, new.swapped_pages),
        steal_share=_share(old.steal_ticks, new.steal_ticks, old.total_ticks, new.total_ticks),
        psi_cpu_some_share=_share(old.psi_cpu_some_us, new.psi_cpu_some_us, 0, duration_ns // 1000),
        context_switches=_risen(old.context_switches, new.context_switches),
        temperature_rise_c=_rise(before.temperature_c, after.temperature_c),
        clock_moved_share=_clock_moved(before.clocks_hz, after.clocks_hz),
    )


def read_over_current_events(sysroot: Path) -> dict[str, int]:
    """Jetson's over-current counters by name (``oc1`` ...); {} elsewhere."""
    events = {}
    for path in find(sysroot, "sys/class/hwmon/hwmon*/oc[0-9]*_event_cnt"):
        count = maybe_int(path)
        if count is not None:
            events[path.name.removesuffix("_event_cnt")] = count
    return events


def _clocks(sysroot: Path) -> dict[str, int]:
    found = {domain.name: read_clock_hz(domain) for domain in clock_domains(sysroot)}
    return {name: hz for name, hz in found.items() if hz is not None}


def _throttle_bits(sysroot: Path) -> int | None:
    if "Raspberry Pi" not in (maybe_text(sysroot / "proc/device-tree/model") or ""):
        return None
    try:
        return read_throttled(sysroot)
    except SamplerError:
        return None


def _thermal_throttle_events(sysroot: Path) -> int | None:
    """The package's counter is repeated in each of its CPUs, so per file kind the sum of all."""
    paths = find(sysroot, "sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/*_throttle_count")
    counts = [count for path in paths if (count := maybe_int(path)) is not None]
    return sum(counts) if counts else None


def _on_battery(sysroot: Path) -> bool | None:
    kinds = {
        folder: maybe_text(folder / "type") for folder in find(sysroot, "sys/class/power_supply/*")
    }
    if "Battery" not in kinds.values():
        return None
    mains = [maybe_int(folder / "online") for folder, kind in kinds.items() if kind != "Battery"]
    return not any(mains)


def _throttled(before: DeviceState, after: DeviceState) -> tuple[str, ...]:
    causes = [*before.throttled, *after.throttled]
    # A sticky bit that appeared in between was set by this run.
    causes += [name for name in after.throttle_history if name not in before.throttle_history]
    if _risen(before.thermal_throttle_events, after.thermal_throttle_events):
        causes.append("thermal_throttle_events")
    causes += [
        f"cooling:{name}"
        for name in sorted({*before.cooling, *after.cooling})
        if before.cooling.get(name) or after.cooling.get(name)
    ]
    return tuple(dict.fromkeys(causes))


def _rates(before: DeviceState, after: DeviceState, duration_ns: int) -> dict[str, float]:
    if duration_ns <= 0:
        return {}
    return {
        name: risen * 1e9 / duration_ns
        for name, count in after.over_current_events.items()
        if (risen := _risen(before.over_current_events.get(name), count)) is not None
    }


def _risen(old: int | None, new: int | None) -> int | None:
    return new - old if old is not None and new is not None and new >= old else None


def _share(
    old: int | None, new: int | None, old_whole: int | None, new_whole: int | None
) -> float | None:
    part, whole = _risen(old, new), _risen(old_whole, new_whole)
    return min(1.0, part / whole) if part is not None and whole else None


def _rise(old: float | None, new: float | None) -> float | None:
    return new - old if old is not None and new is not None else None


def _clock_moved(old: Mapping[str, int], new: Mapping[str, int]) -> float | None:
    moves = [abs(new[name] - hz) / hz for name, hz in old.items() if name in new]
    return max(moves, default=None)
