"""How warm the processor is, by the sensors that mean the processor.

Kernel: ``/sys/class/thermal/thermal_zone*/{type,temp}`` in m°C, and hwmon ``temp*_input``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from assay.agent.samplers.base import unique_names
from assay.agent.sysroot import find, maybe_int, maybe_text

_LOW_C, _HIGH_C = -40.0, 150.0
# What zones of the processor are called: Pi and mainline Arm, Jetson 4/5/6, Qualcomm, MediaTek,
# Exynos, Tensor, Rockchip, x86.
_PROCESSOR_ZONE = re.compile(
    r"^(cpu|cpuss|soc|soc[-_]?\d|tj|big|little|mid|lit|cluster|bigcore|littlecore|center|ap"
    r"|mtktscpu|x86_pkg_temp)([-_ ]|\d|$)",
    re.IGNORECASE,
)
_PROCESSOR_HWMON = frozenset({"coretemp", "k10temp", "zenpower", "cpu_thermal", "soc_thermal"})
# Zones that answer a constant instead of measuring: Jetson's PMIC says 50 or 100 for ever.
_PLACEHOLDER_ZONE = re.compile(r"^PMIC[-_]?(Die|thermal)?$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Zone:
    """A place whose temperature the kernel gives in m°C.

    ``label`` is the kernel's name for it, made unique and fit to name a series (``chip/label`` for
    hwmon): the channels of the samplers ``thermal`` and ``hwmon_temp`` are called so.
    """

    label: str
    path: Path


def thermal_zones(sysroot: Path) -> list[Zone]:
    """Every thermal zone that is not a known placeholder."""
    labelled = [
        (maybe_text(folder / "type") or folder.name, folder / "temp")
        for folder in find(sysroot, "sys/class/thermal/thermal_zone*")
    ]
    return _zones([one for one in labelled if not _PLACEHOLDER_ZONE.match(one[0])])


def hwmon_zones(sysroot: Path) -> list[Zone]:
    """Every ``temp*_input`` of hwmon as ``chip/label``."""
    return _zones(
        [
            (f"{chip}/{_hwmon_label(path)}", path)
            for folder in find(sysroot, "sys/class/hwmon/hwmon*")
            for chip in [hwmon_chip(folder)]
            for path in find(folder, "temp*_input") + find(folder, "device/temp*_input")
        ]
    )


def hwmon_chip(folder: Path) -> str:
    """The driver's name of a hwmon folder; before Linux 3.x it stood beside the device."""
    return maybe_text(folder / "name") or maybe_text(folder / "device/name") or folder.name


def processor_zones(sysroot: Path) -> list[Zone]:
    """The zones that tell the processor's own temperature, best kind first; [] if none does."""
    named = [zone for zone in thermal_zones(sysroot) if _PROCESSOR_ZONE.match(zone.label)]
    if named:
        return named
    chips = [z for z in hwmon_zones(sysroot) if z.label.split("/")[0] in _PROCESSOR_HWMON]
    if chips:
        return chips
    # Firmware's guess of the machine as a whole; better than nothing, worse than any above.
    return [zone for zone in thermal_zones(sysroot) if zone.label.startswith("acpitz")]


def read_zone_c(zone: Zone) -> float | None:
    """Degrees Celsius, or None where the zone does not answer or answers nonsense (-256)."""
    value = maybe_int(zone.path)
    if value is None or not _LOW_C < value / 1000 < _HIGH_C:
        return None
    return value / 1000


def board_temperature_c(sysroot: Path = Path("/")) -> float | None:
    """The hottest of the processor's zones now; None where there is no such sensor."""
    readings = [read_zone_c(zone) for zone in processor_zones(sysroot)]
    return max((value for value in readings if value is not None), default=None)


def _zones(labelled: list[tuple[str, Path]]) -> list[Zone]:
    names = unique_names(label for label, _ in labelled)
    return [Zone(name, path) for name, (_, path) in zip(names, labelled, strict=True)]


def _hwmon_label(path: Path) -> str:
    stem = path.name.removesuffix("_input")
    return maybe_text(path.with_name(f"{stem}_label")) or stem
