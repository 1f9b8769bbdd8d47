"""Memory left on the whole board, from ``/proc/meminfo``."""

from __future__ import annotations

from pathlib import Path

from typing_extensions import Self

from assay.agent.samplers.base import Channel, Reading, Sampler, sampler
from assay.agent.sysroot import read_text
from assay.core.errors import SamplerError
from assay.core.model import Absent

_AVAILABLE = Channel("available", "memory_available", "B")
_SWAP_USED = Channel("swap_used", "swap_used", "B")


@sampler("memory", unit="B", max_hz=10)
class Memory(Sampler):
    """What the kernel thinks may be had without swapping, and swap in use."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.channels = (_AVAILABLE, _SWAP_USED)

    @classmethod
    def probe(cls, sysroot: Path) -> Self | Absent:
        """Absent before Linux 3.14, which had no MemAvailable."""
        found = cls(sysroot / "proc/meminfo")
        try:
            found.read()
        except SamplerError as error:
            return Absent(str(error))
        return found

    def read(self) -> tuple[Reading, ...]:
        """Bytes."""
        try:
            values = parse_meminfo(read_text(self._path))
        except OSError as error:
            raise SamplerError(f"proc/meminfo: {error.strerror}") from error
        if "MemAvailable" not in values:
            raise SamplerError("proc/meminfo: no MemAvailable")
        swap_used = values.get("SwapTotal", 0) - values.get("SwapFree", 0)
        return (
            Reading(_AVAILABLE, values["MemAvailable"]),
            Reading(_SWAP_USED, swap_used),
        )


def parse_meminfo(text: str) -> dict[str, int]:
    """``/proc/meminfo`` by name, in bytes; lines of another shape are left out."""
    values = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        number, _, unit = rest.strip().partition(" ")
        if number.isdigit():
            values[name] = int(number) * (1024 if unit == "kB" else 1)
    return values
