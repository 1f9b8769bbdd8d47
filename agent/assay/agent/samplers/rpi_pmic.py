"""Raspberry Pi 5: the rails of its power chip.

``vcgencmd pmic_read_adc`` gives volts and amperes of twelve rails, and two voltages alone
(EXT5V_V, BATT_V): no input current, and loads on the 5 V line (USB, HATs) are not seen. So the
sum is named for what it is and never called input power.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import Self

from assay.agent.samplers.base import Channel, Meter, Reading, Sampler, sampler
from assay.agent.sysroot import run_command
from assay.core.errors import SamplerError
from assay.core.model import Absent, PowerTier

EXT5V_WARN_V, EXT5V_FAIL_V = 4.8, 4.7

_RAILS = 12
# Ten times the least step seen in answers of this command.
_NOISE_A = 0.01

_COMMAND = ("vcgencmd", "pmic_read_adc")
_LINE = re.compile(
    r"^\s*(\w+?)_([AV]) (current|volt)\(\d+\)=(-?[\d.]+(?:[eE][-+]?\d+)?)([AV])\s*$", re.MULTILINE
)
_SUM = Channel(
    "pmic_rail_sum_w", "power", "W", Meter(PowerTier.BOARD_SENSOR, "rail_sum", total=True)
)
_EXT5V = Channel("EXT5V", "input_voltage", "V")


@dataclass(frozen=True, slots=True)
class PmicReading:
    """Volts and amperes by rail."""

    volts: Mapping[str, float]
    amperes: Mapping[str, float]

    @property
    def watts(self) -> dict[str, float]:
        """By rail, of those that have both."""
        return {rail: self.volts[rail] * a for rail, a in self.amperes.items()}


@sampler("rpi_pmic", unit="W", max_hz=10)
class RpiPmic(Sampler):
    """Watts by rail, their sum, and the 5 V input's volts."""

    def __init__(self, sysroot: Path, rails: tuple[str, ...]) -> None:
        self._sysroot = sysroot
        self._rails = {
            rail: Channel(rail, "power", "W", Meter(PowerTier.BOARD_SENSOR, "rail"))
            for rail in rails
        }
        self.channels = (_SUM, _EXT5V, *self._rails.values())

    @classmethod
    def probe(cls, sysroot: Path) -> Self | Absent:
        """Absent on every Pi before the 5, which have no current sensing at all, and where the
        first answer is not whole: whatever it leaves out would be missing in every sum."""
        try:
            first = parse_pmic(run_command(sysroot, *_COMMAND))
        except SamplerError as error:
            return Absent(str(error))
        rails = tuple(first.amperes)
        if len(rails) < _RAILS:
            return Absent(
                f"vcgencmd pmic_read_adc: {len(rails)} rails, a whole answer has {_RAILS}"
            )
        return cls(sysroot, rails)

    def read(self) -> tuple[Reading, ...]:
        """Watts and volts; half an answer raises SamplerError instead of a smaller sum."""
        found = parse_pmic(run_command(self._sysroot, *_COMMAND))
        watts = found.watts
        missing = [rail for rail in self._rails if rail not in watts]
        if missing:
            raise SamplerError(f"vcgencmd pmic_read_adc: no answer for {', '.join(missing)}")
        readings = [Reading(_SUM, sum(watts[rail] for rail in self._rails))]
        if "EXT5V" in found.volts:
            readings.append(Reading(_EXT5V, found.volts["EXT5V"]))
        return (*readings, *(Reading(c, watts[rail]) for rail, c in self._rails.items()))


def parse_pmic(text: str) -> PmicReading:
    """By rail name and suffix, never by line order: early firmware names a rail ``0V8_SYS``
    instead of ``0V8_SW``. Raises SamplerError where no rail has volts and amperes, or an ampere
    line has no volt line, or a rail's current is negative."""
    volts: dict[str, float] = {}
    amperes: dict[str, float] = {}
    for rail, suffix, _, number, unit in _LINE.findall(text):
        if suffix == unit:
            (amperes if unit == "A" else volts)[rail] = float(number)
    if not amperes:
        said = text.strip().splitlines()
        raise SamplerError(f"vcgencmd pmic_read_adc: no rails in {said[0] if said else ''!r}")
    alone = [rail for rail in amperes if rail not in volts]
    if alone:
        raise SamplerError(f"vcgencmd pmic_read_adc: no voltage for {', '.join(alone)}")
    back = [f"{rail} ({a:.3f} A)" for rail, a in amperes.items() if a < -_NOISE_A]
    if back:
        raise SamplerError(f"vcgencmd pmic_read_adc: current flows back in {', '.join(back)}")
    return PmicReading(volts, amperes)


def input_voltage_problem(ext5v_v: float) -> tuple[str, bool] | None:
    """What is wrong with the 5 V input and whether it fails a run; None where it is well."""
    if ext5v_v >= EXT5V_WARN_V:
        return None
    told = f"the 5 V input is at {ext5v_v:.2f} V: use the 27 W supply and a short cable"
    return told, ext5v_v < EXT5V_FAIL_V
