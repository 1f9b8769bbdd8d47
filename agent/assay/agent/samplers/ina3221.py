"""Jetson: the INA3221 monitors on the module, in both layouts NVIDIA shipped.

JetPack 4: ``/sys/bus/i2c/drivers/ina3221x/<bus-addr>/iio:device*`` (or ``iio_device*``) with
``rail_name_N`` and ``in_powerN_input`` in mW. JetPack 5 and 6, and mainline:
``/sys/bus/i2c/drivers/ina3221/<bus-addr>/hwmon/hwmon*`` with ``inN_label``, ``inN_input`` in mV,
``currN_input`` in mA, ``shuntN_resistor`` in µΩ; there P = V·I. The bus is 0, 1, 6 or 7.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from typing_extensions import Self

from assay.agent.samplers.base import Channel, Reading, Sampler, sampler, unique_names
from assay.agent.samplers.files import FileSource
from assay.agent.samplers.rails import TOTAL, Rail, RailSet
from assay.agent.sysroot import find, maybe_int, maybe_text
from assay.core.errors import SamplerError
from assay.core.model import Absent

_CHANNELS = 3  # in4 to in6 are shunt volts, in7 and curr4 are sums
_SHUNT_LSB_V = 40e-6
_NOT_CONNECTED = "NC"
# JetPack 4 does not tell the shunt; no Nano, TX or Xavier has one below 5 mΩ.
_SMALLEST_SHUNT_OHM = 5e-3


@sampler("ina3221", unit="W")
class Ina3221(Sampler):
    """Watts by rail, and ``total``: the module's input rail where there is one, else the sum."""

    def __init__(self, rails: RailSet, max_hz: float) -> None:
        self._rails = rails
        self.channels = rails.channels
        self.max_hz = max_hz

    @classmethod
    def probe(cls, sysroot: Path) -> Self | Absent:
        """Absent off the Jetson; rails that are not connected or switched off (EIO, ENODATA) are
        left out. One that is switched on and does not answer stays: without it there is no total,
        which else would be the sum of the others."""
        found = [*_iio_rails(sysroot), *_hwmon_rails(sysroot)]
        if not found:
            return Absent("no INA3221 driver is bound")
        rails, why, answers = [], "", False
        for rail in _renamed(found):
            try:
                rail.signed_w()
                answers = True
            except SamplerError as error:
                why = why or str(error)
                if not _is_on(rail):
                    continue
            rails.append(rail)
        return cls(RailSet(rails), _pace_hz(sysroot)) if answers else Absent(why)

    def read(self) -> tuple[Reading, ...]:
        """Watts."""
        readings = self._rails.read()
        self.silence = self._rails.silence
        return readings


def _iio_rails(sysroot: Path) -> Iterator[Rail]:
    for folder in find(sysroot, "sys/bus/i2c/drivers/ina3221x/*/iio[:_]device*"):
        for index in range(_CHANNELS):
            label = maybe_text(folder / f"rail_name_{index}")
            if label is None or label == _NOT_CONNECTED:
                continue
            watts = _source("W", folder / f"in_power{index}_input")
            millivolts = maybe_int(folder / f"in_voltage{index}_input") or 0
            step_w = _SHUNT_LSB_V / _SMALLEST_SHUNT_OHM * millivolts / 1000
            yield Rail(label, watts=watts, quantum_w=step_w)


def _hwmon_rails(sysroot: Path) -> Iterator[Rail]:
    for folder in find(sysroot, "sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*"):
        for index in range(1, _CHANNELS + 1):
            label = maybe_text(folder / f"in{index}_label")
            if label is None or label == _NOT_CONNECTED:
                continue
            millivolts = maybe_int(folder / f"in{index}_input") or 0
            yield Rail(
                label,
                volts=_source("V", folder / f"in{index}_input"),
                amperes=_source("A", folder / f"curr{index}_input"),
                quantum_w=current_step_a(folder, index) * millivolts / 1000,
            )


def _is_on(rail: Rail) -> bool:
    """Whether the driver says so: ``inN_enable``, which JetPack 4 does not have."""
    if rail.volts is None:
        return False
    volts = rail.volts.path
    return maybe_int(volts.with_name(volts.name.replace("_input", "_enable"))) == 1


def _pace_hz(sysroot: Path) -> float:
    """Of the slowest chip: one that averages 512 samples converts every few seconds, and a faster
    loop would take one conversion for many readings."""
    paths = find(sysroot, "sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*/update_interval")
    slowest_ms = max((maybe_int(path) or 0 for path in paths), default=0)
    return min(100.0, 1000 / slowest_ms) if slowest_ms > 0 else 100.0


def current_step_a(folder: Path, index: int) -> float:
    """The converter's step in amperes: 40 µV over the shunt (20 mA on AGX Orin, 8 on Orin Nano)."""
    micro_ohm = maybe_int(folder / f"shunt{index}_resistor") or 0
    return _SHUNT_LSB_V / (micro_ohm * 1e-6 if micro_ohm > 0 else _SMALLEST_SHUNT_OHM)


def _source(unit: str, path: Path) -> FileSource:
    """All three are in thousandths."""
    return FileSource(Channel(path.name, "rail", unit), path, 1e-3)


def _renamed(rails: list[Rail]) -> list[Rail]:
    """Two chips may both call a rail the same, and none may be called as the total is."""
    names = unique_names([TOTAL, *(rail.label for rail in rails)])[1:]
    return [
        Rail(name, rail.watts, rail.volts, rail.amperes, rail.quantum_w)
        for name, rail in zip(names, rails, strict=True)
    ]
