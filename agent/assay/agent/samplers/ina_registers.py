"""What the registers of TI's INA219, INA226 and INA260 mean; pure.

Data sheets SBOS448 (INA219), SBOS547 (INA226), SBOS656 (INA260). Registers are 16 bits, the high
byte first, which SMBus words are not: :func:`swapped`.
"""

from __future__ import annotations

from dataclasses import dataclass

from assay.core.errors import SamplerError

CONFIG, SHUNT, BUS, MAKER, DIE = 0x00, 0x01, 0x02, 0xFE, 0xFF
_TI = 0x5449
_CONTINUOUS = 0b111
# INA219: microseconds by the ADC field; below 8 its bit 2 means nothing.
_US_219 = (84, 148, 276, 532, 84, 148, 276, 532, 532, 1060, 2130, 4260, 8510, 17020, 34050, 68100)
# INA226 and INA260: microseconds by the conversion field, samples by the averaging field.
_US_226 = (140, 204, 332, 588, 1100, 2116, 4156, 8244)
_SAMPLES_226 = (1, 4, 16, 64, 128, 256, 512, 1024)


@dataclass(frozen=True, slots=True)
class Registers:
    """One chip: volts of a step of its bus register, what a step of register 1 is (volts over the
    shunt, or amperes where the shunt is inside), and who it says it is."""

    name: str
    bus_lsb_v: float
    bus_shift: int
    current_lsb: float
    own_shunt: bool = False
    die: int | None = None

    def volts(self, word: int) -> float:
        """Of the bus."""
        return (word >> self.bus_shift) * self.bus_lsb_v

    def current(self, word: int, config: int) -> float:
        """Register 1 in volts over the shunt, or in amperes; raises SamplerError at the end of the
        range, where the true value may be any."""
        signed = word - 0x10000 if word & 0x8000 else word
        limit = 4000 << (config >> 11 & 0b11) if self.name == "ina219" else 0x7FFF
        if abs(signed) >= limit:
            raise SamplerError(f"{self.name}: the current is beyond the range of its converter")
        return signed * self.current_lsb

    def period_s(self, config: int) -> float:
        """From one conversion of both to the next; raises SamplerError for a chip that is switched
        off or waits to be triggered."""
        if config & 0b111 != _CONTINUOUS:
            raise SamplerError(f"{self.name} does not convert all along (register 0: {config:#x})")
        if self.name == "ina219":
            return (_US_219[config >> 7 & 0xF] + _US_219[config >> 3 & 0xF]) / 1e6
        once_us = _US_226[config >> 6 & 0b111] + _US_226[config >> 3 & 0b111]
        return _SAMPLES_226[config >> 9 & 0b111] * once_us / 1e6

    def problem(self, maker: int, die: int) -> str:
        """Why a chip with these numbers is another one, empty where it is this one; an INA219 has
        none to ask for."""
        if maker == _TI and die >> 4 == self.die:
            return ""
        return f"no {self.name}: maker {maker:#06x}, die {die:#06x}"


CHIPS = {
    chip.name: chip
    for chip in (
        Registers("ina219", 4e-3, 3, 10e-6),
        Registers("ina226", 1.25e-3, 0, 2.5e-6, die=0x226),
        Registers("ina260", 1.25e-3, 0, 1.25e-3, own_shunt=True, die=0x227),
    )
}


def swapped(word: int) -> int:
    """A word with its bytes exchanged."""
    return (word & 0xFF) << 8 | word >> 8
