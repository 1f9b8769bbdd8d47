"""The on-device power monitor of Pixel phones: joules of the supply rails since boot.

Google's ``odpm`` driver: ``/sys/bus/iio/devices/iio:device*/energy_value`` holds a line ``t=`` with
milliseconds since boot and one line a rail, ``CH0(T=…)[S10M_VDD_TPU], 3161249``, in µJ. Two chips
with eight rails each; which rails, the firmware chose (``enabled_rails``), and their names differ
between models. Root only on most builds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import Self

from assay.agent.samplers.base import Channel, Meter, Reading, Sampler, sampler, unique_names
from assay.agent.sysroot import find, read_text
from assay.core.errors import SamplerError
from assay.core.model import Absent, PowerTier

FILES = "sys/bus/iio/devices/iio:device*/energy_value"
_RAIL = re.compile(r"^CH\d+\(T=(?P<t>\d+)\)\[(?P<rail>[^\]]+)\],\s*(?P<uj>\d+)\s*$", re.MULTILINE)
_START = re.compile(r"^t=\d+\s*$", re.MULTILINE)
RAILS = Meter(PowerTier.BOARD_SENSOR, "rail_sum", total=True)
TOTAL = Channel("rails", "energy", "J", RAILS)


@dataclass(frozen=True, slots=True)
class RailEnergy:
    """What one rail has taken up to ``t_ms`` (its chip's clock, since boot)."""

    rail: str
    t_ms: int
    energy_uj: int


def parse_rails(text: str) -> tuple[RailEnergy, ...]:
    """Every rail of one file, or of several behind each other; () where the text is none. A chip
    whose list is cut short is left out whole, since its sum would be too small."""
    found: list[RailEnergy] = []
    for part in _START.split(text)[1:]:
        rails = [RailEnergy(m["rail"], int(m["t"]), int(m["uj"])) for m in _RAIL.finditer(part)]
        if len(rails) == part.count("CH"):
            found += rails
    return tuple(found)


@sampler("odpm", unit="J", max_hz=1)
class Odpm(Sampler):
    """Joules since boot of each rail, and of all together (what no rail feeds is not in it)."""

    def __init__(self, files: Sequence[Path], rails: Sequence[RailEnergy]) -> None:
        self._files = tuple(files)
        self._rails = [rail.rail for rail in rails]
        meter = Meter(PowerTier.BOARD_SENSOR, "rail")
        names = unique_names(self._rails)
        self._channels = tuple(Channel(name, "energy", "J", meter) for name in names)
        self.channels = (TOTAL, *self._channels)

    @classmethod
    def probe(cls, sysroot: Path) -> Self | Absent:
        """Absent on all but a few phones, and there without root."""
        files = find(sysroot, FILES)
        if not files:
            return Absent("no on-device power monitor")
        try:
            rails = parse_rails("\n".join(read_text(path) for path in files))
        except PermissionError:
            return Absent("energy_value may be read by root only")
        except OSError as error:
            return Absent(f"energy_value: {error.strerror or error}")
        return cls(files, rails) if rails else Absent("energy_value holds no rails")

    def read(self) -> tuple[Reading, ...]:
        """Joules; SamplerError where a rail is missing, since the sum would be too small."""
        try:
            rails = parse_rails("\n".join(read_text(path) for path in self._files))
        except OSError as error:
            raise SamplerError(f"energy_value: {error.strerror or error}") from error
        if [rail.rail for rail in rails] != self._rails:
            raise SamplerError(f"energy_value: {len(rails)} rails where {len(self._rails)} were")
        joules = [rail.energy_uj / 1e6 for rail in rails]
        parts = [Reading(c, value) for c, value in zip(self._channels, joules, strict=True)]
        return (Reading(TOTAL, sum(joules)), *parts)
