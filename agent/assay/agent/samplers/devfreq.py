"""Clocks of what is not the CPU: GPU, memory, accelerators."""

from __future__ import annotations

from pathlib import Path

from typing_extensions import Self

from assay.agent.samplers.base import Channel, Reading, Sampler, sampler, unique_names
from assay.agent.samplers.files import FileSource, answering, read_files
from assay.agent.sysroot import find, maybe_text
from assay.core.model import Absent


@sampler("devfreq", unit="Hz", max_hz=10)
class Devfreq(Sampler):
    """``/sys/class/devfreq/*/cur_freq``: a channel per device, in Hz as in the file."""

    def __init__(self, sources: tuple[FileSource, ...]) -> None:
        self._sources = sources
        self.channels = tuple(source.channel for source in sources)

    @classmethod
    def probe(cls, sysroot: Path) -> Self | Absent:
        """Absent on most x86 machines."""
        folders = find(sysroot, "sys/class/devfreq/*")
        names = unique_names(maybe_text(f / "device/of_node/name") or f.name for f in folders)
        kept, why = answering(
            FileSource(Channel(name, "device_clock", "Hz"), folder / "cur_freq", low=0)
            for name, folder in zip(names, folders, strict=True)
        )
        return cls(kept) if kept else Absent(why or "no devfreq devices")

    def read(self) -> tuple[Reading, ...]:
        """Hertz."""
        return read_files(self._sources)
