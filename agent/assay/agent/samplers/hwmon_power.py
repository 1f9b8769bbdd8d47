"""Power and energy of hwmon chips that no other sampler knows: GPUs, ACPI power meters.

Kernel: Documentation/hwmon/sysfs-interface; ``power*_average``/``_input`` in µW,
``energy*_input`` in µJ. amdgpu has one of the two power files or both: the average is taken.
"""

from __future__ import annotations

import re
from pathlib import Path

from typing_extensions import Self

from assay.agent.devices.temperature import hwmon_chip
from assay.agent.samplers.base import Channel, Meter, Reading, Sampler, clean_name, sampler
from assay.agent.samplers.files import FileSource, answering, read_files
from assay.agent.sysroot import find, maybe_text
from assay.core.model import Absent, PowerTier

# These have samplers of their own, which know their shunts and rails.
_ELSEWHERE = re.compile(r"^ina\d+x?$")
# ACPI's meter sees the whole machine's input; the others are parts of it.
_WHOLE_BOARD = frozenset({"power_meter"})


@sampler("hwmon_power", unit="W")
class HwmonPower(Sampler):
    """A channel ``chip/label`` per power or energy file that answers."""

    def __init__(self, sources: tuple[FileSource, ...]) -> None:
        self._sources = sources
        self.channels = tuple(source.channel for source in sources)

    @classmethod
    def probe(cls, sysroot: Path) -> Self | Absent:
        """Absent on most boards."""
        sources = [s for folder in _chips(sysroot) for s in _sources(folder)]
        kept, why = answering(_distinct(sources))
        return cls(kept) if kept else Absent(why or "no hwmon chip tells power")

    def read(self) -> tuple[Reading, ...]:
        """Watts, and joules since the chip was started."""
        return read_files(self._sources)


def _chips(sysroot: Path) -> list[Path]:
    """hwmon folders, each once; a GPU's may only be reached through its card."""
    folders = find(sysroot, "sys/class/hwmon/hwmon*")
    folders += find(sysroot, "sys/class/drm/card[0-9]*/device/hwmon/hwmon*")
    once = {folder.resolve(): folder for folder in reversed(folders)}
    return [folder for folder in once.values() if not _ELSEWHERE.match(hwmon_chip(folder))]


def _sources(folder: Path) -> list[FileSource]:
    chip = hwmon_chip(folder)
    found = []
    for index in sorted({_index(path) for path in find(folder, "power[0-9]*_*")}):
        for kind in ("average", "input"):
            path = folder / f"power{index}_{kind}"
            if path.exists():
                found.append(FileSource(_channel(folder, chip, "power", index), path, 1e-6, low=0))
                break
    for path in find(folder, "energy[0-9]*_input"):
        channel = _channel(folder, chip, "energy", _index(path))
        found.append(FileSource(channel, path, 1e-6, low=0))
    return found


def _channel(folder: Path, chip: str, quantity: str, index: int) -> Channel:
    label = maybe_text(folder / f"{quantity}{index}_label") or f"{quantity}{index}"
    whole = chip in _WHOLE_BOARD
    meter = Meter(PowerTier.BOARD_SENSOR, "board_input" if whole else "package", total=whole)
    unit = "W" if quantity == "power" else "J"
    return Channel(clean_name(f"{chip}/{label}"), quantity, unit, meter)


def _distinct(sources: list[FileSource]) -> list[FileSource]:
    """Two chips of one name keep apart by their folder's."""
    seen: dict[str, FileSource] = {}
    for source in sources:
        name = source.channel.name
        if name in seen:
            name = clean_name(f"{name}@{source.path.parent.name}")
        channel = Channel(name, source.channel.quantity, source.channel.unit, source.channel.meter)
        seen[name] = FileSource(channel, source.path, source.scale, source.low)
    return list(seen.values())


def _index(path: Path) -> int:
    match = re.match(r"[a-z]+(\d+)", path.name)
    return int(match.group(1)) if match else 0
