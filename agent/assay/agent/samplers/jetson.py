"""Jetson: how busy the GPU is, and the over-current counters."""

from __future__ import annotations

from pathlib import Path

from typing_extensions import Self

from assay.agent.samplers.base import Channel, Reading, Sampler, sampler
from assay.agent.samplers.files import FileSource, answering, read_files
from assay.agent.sysroot import find
from assay.core.model import Absent

# JetPack 4 has it at the top, Orin under platform; the 17000000.* names are older links to it.
_GPU_LOAD = (
    "sys/devices/gpu.0/load",
    "sys/devices/platform/gpu.0/load",
    "sys/devices/platform/bus@0/17000000.gpu/load",
    "sys/devices/platform/17000000.g*/load",
    "sys/devices/17000000.g*/load",
    "sys/devices/57000000.gpu/load",
)


@sampler("jetson_gpu", unit="1", max_hz=10)
class JetsonGpu(Sampler):
    """The share of time the GPU was busy; per mille in the file."""

    def __init__(self, source: FileSource) -> None:
        self._source = source
        self.channels = (source.channel,)

    @classmethod
    def probe(cls, sysroot: Path) -> Self | Absent:
        """Absent off the Jetson."""
        channel = Channel("load", "gpu_load", "1")
        paths = [path for pattern in _GPU_LOAD for path in find(sysroot, pattern)]
        kept, why = answering(FileSource(channel, p, 1e-3, low=0, high=1) for p in paths)
        return cls(kept[0]) if kept else Absent(why or "no Tegra GPU")

    def read(self) -> tuple[Reading, ...]:
        """A ratio, 0 to 1."""
        return read_files((self._source,))


@sampler("jetson_oc", unit="1", max_hz=10)
class JetsonOverCurrent(Sampler):
    """Over-current events since boot. They move on healthy boards (an Orin Nano at full power
    counts 1 to 30 a second even idle): only the rate against the idle rate means something."""

    def __init__(self, sources: tuple[FileSource, ...]) -> None:
        self._sources = sources
        self.channels = tuple(source.channel for source in sources)

    @classmethod
    def probe(cls, sysroot: Path) -> Self | Absent:
        """Absent off the Jetson, and before JetPack 5."""
        kept, why = answering(
            FileSource(
                Channel(path.name.removesuffix("_event_cnt"), "over_current_events", "1"), path
            )
            for path in find(sysroot, "sys/class/hwmon/hwmon*/oc[0-9]*_event_cnt")
        )
        return cls(kept) if kept else Absent(why or "no over-current counters")

    def read(self) -> tuple[Reading, ...]:
        """Counts since boot."""
        return read_files(self._sources)
