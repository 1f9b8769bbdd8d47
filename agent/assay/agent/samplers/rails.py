"""Supply rails measured as volts and amperes, and what may be said of the whole board."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from assay.agent.samplers.base import Channel, Meter, Reading
from assay.agent.samplers.files import FileSource, read_file
from assay.core.errors import SamplerError
from assay.core.model import PowerTier

# The module's own input where there is one; then no other rail is added to it. AGX Xavier and
# AGX Orin have none: VIN_SYS_5V0 is their I/O supply. VIN is Thor's INA238.
BOARD_TOTALS = ("POM_5V_IN", "VDD_IN", "VIN")
TOTAL = "total"
# One step below zero is noise on an idle rail.
_NOISE_STEPS = 1.5


@dataclass(frozen=True, slots=True)
class Rail:
    """One rail: either a file of watts, or files of volts and amperes; ``quantum_w`` is the step
    of the converter in watts."""

    label: str
    watts: FileSource | None = None
    volts: FileSource | None = None
    amperes: FileSource | None = None
    quantum_w: float = 0.0

    def read_w(self) -> float:
        """Watts into the rail; raises SamplerError, also where power comes out of it by more than
        the converter's noise: a negative rail would make the sum too small."""
        watts = self.signed_w()
        if watts < -_NOISE_STEPS * self.quantum_w:
            raise SamplerError(f"{self.label} reads {watts:.3f} W: its current flows back")
        return max(watts, 0.0)

    def signed_w(self) -> float:
        """Watts as the chip tells them; raises SamplerError."""
        if self.watts is not None:
            return read_file(self.watts).value
        assert self.volts is not None and self.amperes is not None
        return read_file(self.volts).value * read_file(self.amperes).value


class RailSet:
    """The rails of a board, and the one number that stands for all of them.

    That is the board's own total rail, else the sum; a sum with a silent rail is not given.
    """

    def __init__(self, rails: Iterable[Rail]) -> None:
        self._rails = tuple(rails)
        self._total_rail = next((r for r in self._rails if r.label in BOARD_TOTALS), None)
        self._channels = {rail: _channel(rail) for rail in self._rails}
        self.total = Channel(TOTAL, "power", "W", self._total_meter())
        self.channels = (self.total, *self._channels.values())
        self.silence = ""

    def read(self) -> tuple[Reading, ...]:
        """Watts of the total and of each rail; raises SamplerError when none answers."""
        watts: dict[Rail, float] = {}
        problem: SamplerError | None = None
        for rail in self._rails:
            try:
                watts[rail] = rail.read_w()
            except SamplerError as error:
                problem = problem or error
        if not watts:
            raise problem or SamplerError("no rails")
        self.silence = str(problem or "")
        rails = [Reading(self._channels[rail], value) for rail, value in watts.items()]
        if self._total_rail is not None:
            if self._total_rail in watts:
                rails.insert(0, Reading(self.total, watts[self._total_rail]))
        elif len(watts) == len(self._rails):
            rails.insert(0, Reading(self.total, sum(watts.values())))
        return tuple(rails)

    def _total_meter(self) -> Meter:
        parts = self._rails if self._total_rail is None else (self._total_rail,)
        # Steps of several converters are independent.
        quantum_w = sum(rail.quantum_w**2 for rail in parts) ** 0.5
        scope = "rail_sum" if self._total_rail is None else "module"
        return Meter(PowerTier.BOARD_SENSOR, scope, total=True, quantum=quantum_w)


def _channel(rail: Rail) -> Channel:
    meter = Meter(PowerTier.BOARD_SENSOR, "rail", quantum=rail.quantum_w)
    return Channel(rail.label, "power", "W", meter)
