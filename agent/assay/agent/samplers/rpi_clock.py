"""Raspberry Pi: the Arm clock the firmware really set, which the kernel's may not be."""

from __future__ import annotations

import re
from pathlib import Path

from typing_extensions import Self

from assay.agent.samplers.base import Channel, Reading, Sampler, sampler
from assay.agent.sysroot import run_command
from assay.core.errors import SamplerError
from assay.core.model import Absent

_ARM = Channel("arm", "firmware_clock", "Hz")
# The number in brackets is the clock's index: 45 on older firmware, 48 on newer, 0 at times.
_ANSWER = re.compile(r"^frequency\(\d+\)=(\d+)\s*$", re.MULTILINE)


@sampler("rpi_clock", unit="Hz", max_hz=2)
class RpiClock(Sampler):
    """``vcgencmd measure_clock arm``: a short process each time, so twice a second."""

    def __init__(self, sysroot: Path) -> None:
        self._sysroot = sysroot
        self.channels = (_ARM,)

    @classmethod
    def probe(cls, sysroot: Path) -> Self | Absent:
        """Absent off the Raspberry Pi."""
        found = cls(sysroot)
        try:
            found.read()
        except SamplerError as error:
            return Absent(str(error))
        return found

    def read(self) -> tuple[Reading, ...]:
        """Hertz."""
        return (Reading(_ARM, parse_clock(run_command(self._sysroot, *_COMMAND))),)


_COMMAND = ("vcgencmd", "measure_clock", "arm")


def parse_clock(text: str) -> int:
    """Hertz in ``frequency(48)=1500345728``; raises SamplerError for 0 or anything else."""
    match = _ANSWER.search(text)
    if match is None or int(match.group(1)) == 0:
        raise SamplerError(f"vcgencmd measure_clock arm: unexpected answer {text.strip()!r}")
    return int(match.group(1))
