"""Raspberry Pi: the firmware's throttling bits, and the kernel's under-voltage alarm."""

from __future__ import annotations

from pathlib import Path

from typing_extensions import Self

from assay.agent.devices.throttling import read_throttled, under_voltage_alarm
from assay.agent.samplers.base import Channel, Reading, Sampler, sampler
from assay.agent.samplers.files import FileSource, read_files
from assay.core.errors import SamplerError
from assay.core.model import Absent

_BITS = Channel("bits", "throttle_bits", "1")
_ALARM = Channel("under_voltage", "under_voltage_alarm", "1")


@sampler("rpi_throttle", unit="1", max_hz=2)
class RpiThrottle(Sampler):
    """``vcgencmd get_throttled`` as a number: a short process each time, so twice a second."""

    def __init__(self, sysroot: Path) -> None:
        self._sysroot = sysroot
        self.channels = (_BITS,)

    @classmethod
    def probe(cls, sysroot: Path) -> Self | Absent:
        """Absent off the Raspberry Pi and where /dev/vcio may not be opened (group video)."""
        try:
            read_throttled(sysroot)
        except SamplerError as error:
            return Absent(str(error))
        return cls(sysroot)

    def read(self) -> tuple[Reading, ...]:
        """The bits; see :mod:`assay.agent.devices.throttling`."""
        return (Reading(_BITS, read_throttled(self._sysroot)),)


@sampler("rpi_volt", unit="1", max_hz=10)
class RpiVolt(Sampler):
    """hwmon ``rpi_volt``: 1 while the supply is below 4.63 V; cheap enough to watch all along."""

    def __init__(self, alarm: Path) -> None:
        self._source = FileSource(_ALARM, alarm, low=0, high=1)
        self.channels = (_ALARM,)

    @classmethod
    def probe(cls, sysroot: Path) -> Self | Absent:
        """Absent off the Raspberry Pi."""
        alarm = under_voltage_alarm(sysroot)
        return cls(alarm) if alarm is not None else Absent("no hwmon chip named rpi_volt")

    def read(self) -> tuple[Reading, ...]:
        """0 or 1."""
        return read_files((self._source,))
