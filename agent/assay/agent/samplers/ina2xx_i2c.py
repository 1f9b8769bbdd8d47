"""An INA219, INA226 or INA260 on the supply without a kernel driver, by smbus2 and its registers.

Its owner names it in the agent's environment, ``ASSAY_AGENT_INA2XX_I2C=1:0x40:ina219`` (bus,
address, chip), and states the shunt and the sign as for :mod:`assay.agent.samplers.ina2xx`. The
chip is only read: how it converts is as whoever set it up left it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from typing_extensions import Self

from assay.agent.samplers.base import Channel, Meter, Reading, Sampler, sampler
from assay.agent.samplers.ina2xx import SHUNT_VARIABLE, SIGN_VARIABLE, flows_back
from assay.agent.samplers.ina_registers import (
    BUS,
    CHIPS,
    CONFIG,
    DIE,
    MAKER,
    SHUNT,
    Registers,
    swapped,
)
from assay.core.errors import SamplerError
from assay.core.model import Absent, PowerTier

CHIP_VARIABLE = "ASSAY_AGENT_INA2XX_I2C"
_NAMED = re.compile(r"^(\d+):(0x[0-9a-f]{2}):(\w+)$", re.IGNORECASE)


class Bus(Protocol):
    """What is used of :class:`smbus2.SMBus`."""

    def read_word_data(self, i2c_addr: int, register: int) -> int:
        """The low byte first; raises OSError."""

    def close(self) -> None:
        """Lets go of the bus."""


def open_bus(number: int) -> Bus:
    """``/dev/i2c-<number>``; raises OSError, or SamplerError where smbus2 is missing."""
    try:
        from smbus2 import SMBus
    except ImportError:
        raise SamplerError("smbus2 is missing: pip install 'assay-fleet[meters]'") from None
    bus: Bus = SMBus(number)
    return bus


@sampler("ina2xx_i2c", unit="W")
class Ina2xxI2c(Sampler):
    """Volts, amperes and watts; watts only while current flows from the supply to the load."""

    def __init__(
        self, bus: Bus, address: int, chip: Registers, shunt_ohm: float, sign: int
    ) -> None:
        self._bus, self._address, self._chip = bus, address, chip
        self._per_step = sign / shunt_ohm
        self._step_a = chip.current_lsb / shunt_ohm
        if chip.die is not None and (problem := chip.problem(self._word(MAKER), self._word(DIE))):
            raise SamplerError(problem)
        # A faster loop would read each conversion twice.
        self.max_hz = min(100.0, 1 / chip.period_s(self._word(CONFIG)))
        step_w = self._step_a * chip.volts(self._word(BUS))
        meter = Meter(PowerTier.BOARD_SENSOR, "board_input", total=True, quantum=step_w)
        self._watts = Channel("watts", "power", "W", meter)
        self._volts = Channel("volts", "voltage", "V")
        self._amperes = Channel("amperes", "current", "A")
        self.channels = (self._watts, self._volts, self._amperes)
        self.read()

    @classmethod
    def probe(
        cls,
        sysroot: Path,
        environ: Mapping[str, str] = os.environ,
        opened: Callable[[int], Bus] = open_bus,
    ) -> Self | Absent:
        """Absent where no chip is named, its shunt is not stated, or it is another one."""
        named = environ.get(CHIP_VARIABLE, "")
        if not named or sysroot != Path("/"):
            return Absent(f"no chip is named in {CHIP_VARIABLE}")
        match = _NAMED.match(named)
        chip = CHIPS.get(match[3].lower()) if match else None
        if match is None or chip is None:
            return Absent(f"{CHIP_VARIABLE}: {named!r} is not like 1:0x40:{'|'.join(CHIPS)}")
        shunt = environ.get(SHUNT_VARIABLE, "")
        if not chip.own_shunt and (not shunt.isdecimal() or int(shunt) == 0):
            return Absent(f"{chip.name}: state its shunt in µΩ in {SHUNT_VARIABLE}, not {shunt!r}")
        ohm = 1.0 if chip.own_shunt else int(shunt) * 1e-6
        sign = -1 if environ.get(SIGN_VARIABLE) == "-1" else 1
        try:
            bus = opened(int(match[1]))
        except (OSError, SamplerError) as error:
            return Absent(f"bus {match[1]}: {error}")
        try:
            return cls(bus, int(match[2], 16), chip, ohm, sign)
        except SamplerError as error:
            bus.close()
            return Absent(str(error))

    def read(self) -> tuple[Reading, ...]:
        """Volts and amperes, and watts unless the current flows the wrong way."""
        config = self._word(CONFIG)
        # Whoever resets the chip on the way changes what its registers mean.
        self._chip.period_s(config)
        amperes = self._chip.current(self._word(SHUNT), config) * self._per_step
        volts = self._chip.volts(self._word(BUS))
        told = Reading(self._volts, volts), Reading(self._amperes, amperes)
        self.silence = flows_back(amperes, self._step_a)
        if self.silence:
            return told
        return Reading(self._watts, volts * max(amperes, 0.0)), *told

    def close(self) -> None:
        """Closes the bus."""
        self._bus.close()

    def _word(self, register: int) -> int:
        try:
            return swapped(self._bus.read_word_data(self._address, register))
        except OSError as error:
            where = f"{self._chip.name} at {self._address:#x}"
            raise SamplerError(f"{where}: {error.strerror or error}") from error
