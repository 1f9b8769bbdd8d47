"""Time that tasks waited for CPU, memory or I/O: the kernel's pressure stall information."""

from __future__ import annotations

from pathlib import Path

from typing_extensions import Self

from assay.agent.devices.kernel import parse_pressure
from assay.agent.samplers.base import Channel, Reading, Sampler, sampler
from assay.agent.sysroot import read_text
from assay.core.errors import SamplerError
from assay.core.model import Absent

_RESOURCES = ("cpu", "memory", "io")


@sampler("psi", unit="s", max_hz=10)
class Psi(Sampler):
    """Seconds since boot in which at least one task (``some``) or all of them (``full``) stood
    still; counters, so that no stall between two readings is missed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.channels: tuple[Channel, ...] = ()
        self.channels = tuple(reading.channel for reading in self.read())

    @classmethod
    def probe(cls, sysroot: Path) -> Self | Absent:
        """Absent before Linux 4.20 and where the kernel was built or booted without it."""
        try:
            return cls(sysroot / "proc/pressure")
        except SamplerError as error:
            return Absent(f"{error} (Raspberry Pi OS: boot with psi=1)")

    def read(self) -> tuple[Reading, ...]:
        """Seconds since boot."""
        readings: list[Reading] = []
        problem = "proc/pressure: nothing in it"
        for resource in _RESOURCES:
            try:
                totals = parse_pressure(read_text(self._folder / resource))
            except OSError as error:
                problem = f"proc/pressure/{resource}: {error.strerror}"
                continue
            readings += [
                Reading(Channel(f"{resource}_{kind}", "stall_time", "s"), total_us / 1e6)
                for kind, total_us in totals.items()
            ]
        if not readings:
            raise SamplerError(problem)
        return tuple(readings)
