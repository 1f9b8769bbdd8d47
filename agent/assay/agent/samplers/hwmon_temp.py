"""Temperatures of hwmon chips: the processor's own sensor on x86, the PMIC's, the board's."""

from __future__ import annotations

from pathlib import Path

from typing_extensions import Self

from assay.agent.devices.temperature import hwmon_zones
from assay.agent.samplers.base import Channel, Reading, Sampler, sampler
from assay.agent.samplers.files import FileSource, answering, read_files
from assay.core.model import Absent

# Reading these sends a command to the disk or the radio, in the middle of a timed block.
_COSTLY = frozenset(
    {"nvme", "drivetemp", "iwlwifi_1", "ath10k_hwmon", "ath11k_hwmon", "mt7921_phy0"}
)


@sampler("hwmon_temp", unit="C", max_hz=5)
class HwmonTemp(Sampler):
    """A channel ``chip/label`` per sensor that answers; m°C in the file."""

    def __init__(self, sources: tuple[FileSource, ...]) -> None:
        self._sources = sources
        self.channels = tuple(source.channel for source in sources)

    @classmethod
    def probe(cls, sysroot: Path) -> Self | Absent:
        """Absent where no chip that is cheap to read has a temperature."""
        zones = [z for z in hwmon_zones(sysroot) if z.label.split("/")[0] not in _COSTLY]
        kept, why = answering(
            FileSource(Channel(zone.label, "temperature", "C"), zone.path, 1e-3, low=-40, high=150)
            for zone in zones
        )
        return cls(kept) if kept else Absent(why or "no hwmon temperatures")

    def read(self) -> tuple[Reading, ...]:
        """Degrees Celsius."""
        return read_files(self._sources)
