"""A current monitor on the board's supply: INA219, INA226, INA260, INA238 and their kin.

Kernel: Documentation/hwmon/ina2xx; ``in1_input`` bus mV, ``curr1_input`` mA (signed),
``power1_input`` µW (unsigned, so not used), ``shunt_resistor`` µΩ. Two things the kernel cannot
know are stated by whoever soldered it, in the agent's environment:

``ASSAY_AGENT_INA2XX_SHUNT_UOHM``  the real shunt. The driver assumes 10 mΩ unless told; modules
    for hobbyists carry 100 mΩ, so that an unset shunt means ten times the current.
``ASSAY_AGENT_INA2XX_SIGN``  -1 where the load's current reads negative.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import Self

from assay.agent.devices.temperature import hwmon_chip
from assay.agent.samplers.base import Channel, Meter, Reading, Sampler, sampler
from assay.agent.samplers.files import FileSource, read_file
from assay.agent.samplers.rails import BOARD_TOTALS
from assay.agent.sysroot import find, maybe_int, maybe_text
from assay.core.errors import SamplerError
from assay.core.model import Absent, PowerTier

SHUNT_VARIABLE = "ASSAY_AGENT_INA2XX_SHUNT_UOHM"
SIGN_VARIABLE = "ASSAY_AGENT_INA2XX_SIGN"
_DRIVER_DEFAULT_UOHM = 10_000
_BUILT_IN_SHUNT = frozenset({"ina260"})
_CHIP = re.compile(r"^ina(219|220|226|228|230|231|233|234|237|238|260|700|780)$")
_SHUNT_LSB_V = {"ina219": 10e-6, "ina220": 10e-6, "ina237": 5e-6, "ina238": 5e-6}
_DEFAULT_LSB_V = 2.5e-6


@dataclass(frozen=True, slots=True)
class Shunt:
    """What the driver's amperes must be multiplied by, and the resistance that follows."""

    factor: float
    micro_ohm: int


@sampler("ina2xx", unit="W")
class Ina2xx(Sampler):
    """Volts, amperes and watts of one monitor on the supply; watts only while current flows from
    the supply to the load."""

    def __init__(self, folder: Path, shunt: Shunt, sign: int) -> None:
        chip = hwmon_chip(folder)
        lsb_a = _SHUNT_LSB_V.get(chip, _DEFAULT_LSB_V) / (shunt.micro_ohm * 1e-6)
        self._volts = FileSource(Channel("volts", "voltage", "V"), folder / "in1_input", 1e-3)
        amperes = Channel("amperes", "current", "A")
        self._amperes = FileSource(amperes, folder / "curr1_input", 1e-3 * shunt.factor * sign)
        bus_v = (maybe_int(folder / "in1_input") or 0) / 1000
        self._step_a = max(lsb_a, 1e-3)
        meter = Meter(
            PowerTier.BOARD_SENSOR, _scope(folder), total=True, quantum=self._step_a * bus_v
        )
        self._watts = Channel("watts", "power", "W", meter)
        self.channels = (self._watts, self._volts.channel, amperes)
        interval_ms = maybe_int(folder / "update_interval") or 0
        # The converter of an INA226 with averaging needs longer than our period; a faster loop
        # would see each conversion twice.
        self.max_hz = min(100.0, 1000 / interval_ms) if interval_ms > 0 else 100.0

    @classmethod
    def probe(cls, sysroot: Path, environ: Mapping[str, str] = os.environ) -> Self | Absent:
        """Absent without such a chip, with several (which is the supply?), and while the shunt is
        the driver's guess."""
        folders = [f for f in find(sysroot, "sys/class/hwmon/hwmon*") if _CHIP.match(hwmon_chip(f))]
        if not folders:
            return Absent("no INA219, INA226, INA260 or INA238 driver is bound")
        named = [folder for folder in folders if _label(folder) in BOARD_TOTALS] or folders
        if len(named) > 1:
            return Absent(f"{len(named)} current monitors and none is named as the supply's")
        shunt = shunt_of(named[0], environ.get(SHUNT_VARIABLE, ""))
        if isinstance(shunt, Absent):
            return shunt
        found = cls(named[0], shunt, -1 if environ.get(SIGN_VARIABLE) == "-1" else 1)
        try:
            found.read()
        except SamplerError as error:
            return Absent(str(error))
        return found

    def read(self) -> tuple[Reading, ...]:
        """Volts and amperes, and watts unless the current flows the wrong way."""
        volts, amperes = read_file(self._volts), read_file(self._amperes)
        self.silence = flows_back(amperes.value, self._step_a)
        if self.silence:
            return volts, amperes
        return Reading(self._watts, volts.value * max(amperes.value, 0.0)), volts, amperes


def flows_back(amperes: float, step_a: float) -> str:
    """Why there are no watts while current flows from the load to the supply; empty else. One step
    below zero is noise around an idle shunt."""
    if amperes >= -step_a:
        return ""
    return (
        f"{amperes:.3f} A flow back into the supply, so there are no watts "
        f"({SIGN_VARIABLE}=-1 where the load reads negative)"
    )


def shunt_of(folder: Path, stated_uohm: str) -> Shunt | Absent:
    """The shunt by the chip, the statement or the driver, in this order of trust."""
    chip = hwmon_chip(folder)
    assumed = maybe_int(folder / "shunt_resistor")
    if chip in _BUILT_IN_SHUNT:
        return Shunt(1.0, assumed or 2_000)
    if stated_uohm:
        if not stated_uohm.isdecimal() or int(stated_uohm) == 0:
            return Absent(f"{SHUNT_VARIABLE}: {stated_uohm!r} is no number of µΩ")
        real = int(stated_uohm)
        return Shunt((assumed or _DRIVER_DEFAULT_UOHM) / real, real)
    if _label(folder) in BOARD_TOTALS:
        # The maker of the module set it in the device tree together with the label.
        return Shunt(1.0, assumed or _DRIVER_DEFAULT_UOHM)
    if assumed is None or assumed == _DRIVER_DEFAULT_UOHM:
        return Absent(
            f"{chip} runs on the driver's default shunt of 10 mΩ, and many modules carry 100 mΩ: "
            f"state the real one in µΩ in {SHUNT_VARIABLE}, or in the device tree overlay"
        )
    return Shunt(1.0, assumed)


def _label(folder: Path) -> str:
    return maybe_text(folder / "label") or maybe_text(folder / "in1_label") or ""


def _scope(folder: Path) -> str:
    return "module" if _label(folder) in BOARD_TOTALS else "board_input"
