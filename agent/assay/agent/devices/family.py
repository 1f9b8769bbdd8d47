"""What a family of boards (one file each) finds out, before it becomes facts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from assay.agent.devices.cpu import CpuInfo, parse_cpuinfo
from assay.agent.sysroot import maybe_text
from assay.core.model import CpuFacts


@dataclass(frozen=True, slots=True)
class Clues:
    """What every family looks at first."""

    sysroot: Path
    info: CpuInfo
    cpu: CpuFacts
    model: str
    compatible: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Identity:
    """A board that a family recognised as its own."""

    board: str
    device_class: str
    os: str | None = None
    power_mode: str | None = None
    capabilities: tuple[str, ...] = ()


def gather(sysroot: Path, cpu: CpuFacts) -> Clues:
    """Reads the device tree and cpuinfo; a board without them has empty clues."""
    compatible = maybe_text(sysroot / "proc/device-tree/compatible") or ""
    return Clues(
        sysroot=sysroot,
        info=parse_cpuinfo(maybe_text(sysroot / "proc/cpuinfo") or ""),
        cpu=cpu,
        model=maybe_text(sysroot / "proc/device-tree/model") or "",
        compatible=tuple(part for part in compatible.split("\0") if part),
    )
