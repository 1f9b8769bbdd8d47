"""x86: energy counters of the processor packages (RAPL).

Kernel: Documentation/power/powercap; ``energy_uj`` wraps at ``max_energy_range_uj``. A package
includes its cores, so subzones are never added; DRAM and the rest of the board are outside.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import Self

from assay.agent.power.integral import unwrap
from assay.agent.samplers.base import Channel, Meter, Reading, Sampler, sampler
from assay.agent.sysroot import find, maybe_int, maybe_text, read_int
from assay.core.errors import SamplerError
from assay.core.model import Absent, PowerTier

_TOTAL = Channel("packages", "energy", "J", Meter(PowerTier.BOARD_SENSOR, "package", total=True))
# Only top-level zones: intel-rapl:0, not intel-rapl:0:1; the MMIO twin counts the same package.
_ZONE = re.compile(r"^intel-rapl:\d+$")
_PACKAGE = re.compile(r"^package-\d+(-die-\d+)?$")


@dataclass(slots=True)
class _Zone:
    channel: Channel
    path: Path
    wrap_uj: int
    last_uj: int
    risen_uj: int = 0

    def read(self) -> Reading:
        """Joules since the probe, across any wraparound."""
        try:
            now_uj = read_int(self.path)
        except (OSError, ValueError) as error:
            raise SamplerError(f"{self.path.parent.name}/energy_uj: {error}") from error
        self.risen_uj += int(unwrap(self.last_uj, now_uj, self.wrap_uj))
        self.last_uj = now_uj
        return Reading(self.channel, self.risen_uj / 1e6)


@sampler("rapl", unit="J")
class Rapl(Sampler):
    """Joules since the probe of each package, and of all together (a read never misses a
    wraparound: at 200 W one takes twenty minutes)."""

    def __init__(self, zones: tuple[_Zone, ...]) -> None:
        self._zones = zones
        self.channels = (_TOTAL, *(zone.channel for zone in zones))

    @classmethod
    def probe(cls, sysroot: Path) -> Self | Absent:
        """Absent without root, in virtual machines, and where the counter of any package cannot be
        read or cannot be right: the others' sum would stand for the machine."""
        zones: list[_Zone] = []
        folders = _folders(sysroot)
        for folder in folders:
            name = maybe_text(folder / "name")
            if name is not None and not _PACKAGE.match(name):
                continue
            found = _open(folder, name)
            if isinstance(found, Absent):
                return found
            zones.append(found)
        nothing = "no zone is a package" if folders else "no intel-rapl zones"
        return cls(tuple(zones)) if zones else Absent(nothing)

    def read(self) -> tuple[Reading, ...]:
        """Joules; SamplerError where one package is silent, since the sum would be too small."""
        packages = [zone.read() for zone in self._zones]
        return (Reading(_TOTAL, sum(reading.value for reading in packages)), *packages)


def _folders(sysroot: Path) -> list[Path]:
    """The packages' zones, which some kernels list flat and some under their control type."""
    patterns = (
        "sys/class/powercap/intel-rapl:*",
        "sys/class/powercap/intel-rapl/intel-rapl:*",
        "sys/devices/virtual/powercap/intel-rapl/intel-rapl:*",
    )
    folders = [f for pattern in patterns for f in find(sysroot, pattern) if _ZONE.match(f.name)]
    return list({folder.name: folder for folder in reversed(folders)}.values())[::-1]


def _open(folder: Path, name: str | None) -> _Zone | Absent:
    path = folder / "energy_uj"
    try:
        energy_uj = read_int(path)
    except PermissionError:
        return Absent("energy_uj may be read by root only")
    except (OSError, ValueError) as error:
        return Absent(f"{folder.name}/energy_uj: {error}")
    wrap_uj = maybe_int(folder / "max_energy_range_uj")
    # A disabled zone has been seen with 6e13 µJ, far beyond any range.
    if wrap_uj is None or not 0 <= energy_uj <= wrap_uj:
        return Absent(f"{folder.name}: {energy_uj} µJ cannot be (range {wrap_uj})")
    meter = Meter(PowerTier.BOARD_SENSOR, "package")
    return _Zone(Channel(name or folder.name, "energy", "J", meter), path, wrap_uj, energy_uj)
