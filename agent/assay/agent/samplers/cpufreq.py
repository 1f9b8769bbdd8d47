"""The clock of each CPU cluster as the kernel tells it."""

from __future__ import annotations

from pathlib import Path

from typing_extensions import Self

from assay.agent.devices.clocks import clock_domains
from assay.agent.samplers.base import Channel, Reading, Sampler, sampler
from assay.agent.samplers.files import FileSource, answering, read_files
from assay.core.model import Absent


@sampler("cpufreq", unit="Hz")
class Cpufreq(Sampler):
    """``cpuinfo_cur_freq`` where it may be read, else ``scaling_cur_freq``, which can be only the
    request (Raspberry Pi, Jetson); a channel per clock domain, named after its first CPU."""

    def __init__(self, sources: tuple[FileSource, ...]) -> None:
        self._sources = sources
        self.channels = tuple(source.channel for source in sources)

    @classmethod
    def probe(cls, sysroot: Path) -> Self | Absent:
        """Absent on most virtual machines."""
        domains = clock_domains(sysroot)
        sources = [
            FileSource(Channel(domain.name, "cpu_clock", "Hz"), domain.current, 1000.0, low=1.0)
            for domain in domains
            if domain.current is not None
        ]
        kept, why = answering(sources)
        if kept:
            return cls(kept)
        nothing = "cpufreq tells limits but no current clock" if domains else "no cpufreq driver"
        return Absent(why or nothing)

    def read(self) -> tuple[Reading, ...]:
        """Hertz; a CPU that went offline is silent."""
        return read_files(self._sources)
