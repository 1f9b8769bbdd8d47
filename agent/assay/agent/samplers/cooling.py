"""Cooling devices that hold the processor back; see :mod:`assay.agent.devices.cooling`."""

from __future__ import annotations

from pathlib import Path

from typing_extensions import Self

from assay.agent.devices.cooling import cooling_states
from assay.agent.samplers.base import Channel, Reading, Sampler, sampler, unique_names
from assay.agent.samplers.files import FileSource, answering, read_files
from assay.agent.sysroot import maybe_text
from assay.core.model import Absent


@sampler("cooling", unit="1", max_hz=10)
class Cooling(Sampler):
    """A channel per device on the allow-list: 0 means the processor runs free."""

    def __init__(self, sources: tuple[FileSource, ...]) -> None:
        self._sources = sources
        self.channels = tuple(source.channel for source in sources)

    @classmethod
    def probe(cls, sysroot: Path) -> Self | Absent:
        """Absent where nothing but fans, chargers and settings is listed."""
        paths = list(cooling_states(sysroot).values())
        names = unique_names(maybe_text(path.with_name("type")) or "" for path in paths)
        kept, why = answering(
            FileSource(Channel(name, "cooling_state", "1"), path)
            for name, path in zip(names, paths, strict=True)
        )
        nothing = "no cooling device that holds the processor back"
        return cls(kept) if kept else Absent(why or nothing)

    def read(self) -> tuple[Reading, ...]:
        """The state, 0 to the device's maximum."""
        return read_files(self._sources)
