"""What clock the kernel believes each cluster runs at.

On a Raspberry Pi ``scaling_cur_freq`` can be the request while the firmware does something else
(sampler ``rpi_clock`` asks it); on Jetson it can be false and ``cpuinfo_cur_freq`` is preferred
where it may be read. Both in kHz.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from assay.agent.sysroot import find, maybe_int, maybe_text, parse_cpu_list

_CPU = "sys/devices/system/cpu"


@dataclass(frozen=True, slots=True)
class ClockDomain:
    """CPUs that share a clock, and the file that tells it."""

    name: str
    cpus: tuple[int, ...]
    folder: Path
    current: Path | None


def clock_domains(sysroot: Path) -> list[ClockDomain]:
    """The cpufreq policies, or what older kernels have instead: a folder per CPU."""
    folders = find(sysroot, f"{_CPU}/cpufreq/policy[0-9]*")
    if not folders:
        folders = find(sysroot, f"{_CPU}/cpu[0-9]*/cpufreq")
    domains: dict[tuple[int, ...], ClockDomain] = {}
    for folder in folders:
        cpus = _cpus(folder)
        # A link per CPU to one shared folder counts once.
        domains.setdefault(cpus, ClockDomain(f"cpu{cpus[0]}", cpus, folder, _current(folder)))
    return list(domains.values())


def read_clock_hz(domain: ClockDomain) -> int | None:
    """The clock now; None where the file is missing or refuses."""
    khz = maybe_int(domain.current) if domain.current is not None else None
    return khz * 1000 if khz else None


def governors(sysroot: Path) -> tuple[str, ...]:
    """The governors in use, each once."""
    found = [maybe_text(domain.folder / "scaling_governor") for domain in clock_domains(sysroot)]
    return tuple(dict.fromkeys(name for name in found if name))


def clocks_locked(sysroot: Path) -> bool | None:
    """Whether every domain may run at one clock only, as ``jetson_clocks`` leaves it whatever the
    governor is called; None where limits are not told. Re-running nvpmodel undoes it silently."""
    limits = [
        (
            maybe_int(domain.folder / "scaling_min_freq"),
            maybe_int(domain.folder / "scaling_max_freq"),
        )
        for domain in clock_domains(sysroot)
    ]
    if not limits or any(None in pair for pair in limits):
        return None
    return all(low == high for low, high in limits)


def _cpus(folder: Path) -> tuple[int, ...]:
    text = maybe_text(folder / "related_cpus") or maybe_text(folder / "affected_cpus") or ""
    digits = "".join(c for c in (folder.name + folder.parent.name) if c.isdigit())
    return parse_cpu_list(text) or (int(digits),)


def _current(folder: Path) -> Path | None:
    for name in ("cpuinfo_cur_freq", "scaling_cur_freq"):
        # cpuinfo_cur_freq is root's on most kernels, so reading it is the only test.
        if maybe_int(folder / name):
            return folder / name
    return None
