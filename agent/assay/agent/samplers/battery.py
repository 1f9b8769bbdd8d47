"""The battery's own gauge.

Kernel: Documentation/ABI/testing/sysfs-class-power; µV, µA, µW, 0.1 °C. In the field the sign of
the current is reversed on some phones and its unit is mA on others, so on a phone there are no
watts without a calibration (:mod:`assay.agent.power.calibration`), only the number as it stands; on
a PC the driver's word holds.
While a charger is connected the current is the charge, not the load: no watts then either.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from typing_extensions import Self

from assay.agent.samplers.base import Channel, Meter, Reading, Sampler, sampler
from assay.agent.samplers.files import FileSource, read_file
from assay.agent.sysroot import find, maybe_int, maybe_text
from assay.core.errors import SamplerError
from assay.core.model import Absent, PowerTier

# What drivers return as if it were a current: EIO, EAGAIN, ENODEV, EINVAL, ENODATA, ETIMEDOUT.
_ERRNO_CURRENTS = frozenset({-5, -11, -19, -22, -61, -110})
# A laptop in use; outside it the unit is not what the driver says.
_PLAUSIBLE_W = (0.3, 200.0)

_WATTS = Channel("watts", "power", "W", Meter(PowerTier.BATTERY_GAUGE, "battery", total=True))

CURRENT = Channel("current", "battery_current", "1")
"""A phone's ``current_now`` while it discharges, of unknown sign and unit."""


@dataclass(frozen=True, slots=True)
class Gauge:
    """A battery's folder and which of its files answer; ``android`` gauges need calibration."""

    folder: Path
    android: bool


@sampler("battery", unit="W", max_hz=2)
class Battery(Sampler):
    """Volts, charge and temperature; while it discharges watts, or a phone's raw current."""

    def __init__(self, gauge: Gauge) -> None:
        self._folder = gauge.folder
        self._android = gauge.android
        self._sources = tuple(
            source
            for source in (
                FileSource(Channel("volts", "voltage", "V"), gauge.folder / "voltage_now", 1e-6),
                FileSource(
                    Channel("charge", "battery_charge", "1"), gauge.folder / "capacity", 0.01
                ),
                FileSource(Channel("temperature", "temperature", "C"), gauge.folder / "temp", 0.1),
            )
            if maybe_int(source.path) is not None
        )
        watts = () if gauge.android else (_WATTS,)
        raw = gauge.android and read_current(gauge.folder) is not None
        self._raw = (CURRENT,) if raw else ()
        self.channels = (*watts, *(source.channel for source in self._sources), *self._raw)

    @classmethod
    def probe(cls, sysroot: Path) -> Self | Absent:
        """Absent on boards without a battery."""
        gauge = find_gauge(sysroot)
        if gauge is None:
            return Absent("no battery")
        found = cls(gauge)
        return found if found.channels else Absent(f"{gauge.folder.name}: no file answers")

    def read(self) -> tuple[Reading, ...]:
        """What answers; watts and current only while discharging."""
        readings: list[Reading] = []
        problem = SamplerError(f"{self._folder.name}: no file answers")
        for source in self._sources:
            try:
                readings.append(read_file(source))
            except SamplerError as error:
                problem = error
        watts = None if self._android else discharge_w(self._folder)
        if watts is not None:
            readings.insert(0, Reading(_WATTS, watts))
        current = read_current(self._folder) if self._raw else None
        if current is not None and maybe_text(self._folder / "status") == "Discharging":
            readings.append(Reading(CURRENT, current))
        if not readings:
            raise problem
        return tuple(readings)


def find_gauge(sysroot: Path) -> Gauge | None:
    """The battery by type, else by its files; ``battery`` before ``bms`` where both are there.

    Devices of scope Device (mice, headsets) are not the board's battery.
    """
    candidates = [
        folder
        for folder in find(sysroot, "sys/class/power_supply/*")
        if (maybe_text(folder / "type") or "Battery") == "Battery"
        and maybe_text(folder / "scope") != "Device"
        and maybe_int(folder / "voltage_now") is not None
    ]
    if not candidates:
        return None
    best = min(candidates, key=lambda folder: (folder.name.lower() == "bms", folder.name))
    return Gauge(best, android=not best.name.upper().startswith(("BAT0", "BAT1", "CMB", "MACSMC")))


def discharge_w(folder: Path) -> float | None:
    """Watts out of a PC's battery; None while it is not discharging or the number cannot be."""
    if maybe_text(folder / "status") != "Discharging":
        return None
    micro_w = maybe_int(folder / "power_now")
    watts = abs(micro_w) / 1e6 if micro_w is not None else _product_w(folder)
    return watts if watts is not None and _PLAUSIBLE_W[0] <= watts <= _PLAUSIBLE_W[1] else None


def read_current(folder: Path) -> int | None:
    """``current_now`` as the driver gives it; None for the errno values some return instead."""
    current = maybe_int(folder / "current_now")
    return None if current in _ERRNO_CURRENTS else current


def _product_w(folder: Path) -> float | None:
    current, micro_v = read_current(folder), maybe_int(folder / "voltage_now")
    if current is None or micro_v is None:
        return None
    return abs(current) / 1e6 * micro_v / 1e6
