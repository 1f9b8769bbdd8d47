"""Temperatures of the kernel's thermal zones."""

from __future__ import annotations

from pathlib import Path

from typing_extensions import Self

from assay.agent.devices.temperature import thermal_zones
from assay.agent.samplers.base import Channel, Reading, Sampler, sampler
from assay.agent.samplers.files import FileSource, answering, read_files
from assay.core.model import Absent


@sampler("thermal", unit="C", max_hz=10)
class Thermal(Sampler):
    """A channel per zone that answers, named by its type; m°C in the file.

    Zones that answer EAGAIN for ever (Tegra's cv0-2 while that unit is off), -256 or another
    impossible value are left out.
    """

    def __init__(self, sources: tuple[FileSource, ...]) -> None:
        self._sources = sources
        self.channels = tuple(source.channel for source in sources)

    @classmethod
    def probe(cls, sysroot: Path) -> Self | Absent:
        """Absent on most virtual machines and some phones, which hide their zones."""
        kept, why = answering(
            FileSource(Channel(zone.label, "temperature", "C"), zone.path, 1e-3, low=-40, high=150)
            for zone in thermal_zones(sysroot)
        )
        return cls(kept) if kept else Absent(why or "no thermal zones")

    def read(self) -> tuple[Reading, ...]:
        """Degrees Celsius."""
        return read_files(self._sources)
