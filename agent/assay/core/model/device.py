"""What a device says about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LABEL = "label:"
"""Begins a capability that is a label of the agent's settings: ``label:key=value``."""


@dataclass(frozen=True, slots=True)
class Absent:
    """A value that could not be had, and why: shown and exported, never a silent gap."""

    reason: str

    def __str__(self) -> str:
        return f"absent: {self.reason}"


@dataclass(frozen=True, slots=True)
class CpuCluster:
    """Cores that share a clock domain; ``max_hz`` is None without cpufreq."""

    cpus: tuple[int, ...]
    max_hz: int | None = None


@dataclass(frozen=True, slots=True)
class CpuFacts:
    """The processor; clusters run from the fastest to the slowest."""

    model: str
    architecture: str
    flags: tuple[str, ...] = ()
    clusters: tuple[CpuCluster, ...] = ()


@dataclass(frozen=True, slots=True)
class RuntimeFacts:
    """A runtime that answered a real inference on this device."""

    name: str
    version: str
    providers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SamplerFacts:
    """A sensor and, where it does not work here, the reason."""

    name: str
    unit: str
    absent_reason: str = ""


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """One board as its agent sees it."""

    board: str
    device_class: str
    cpu: CpuFacts
    memory_total_bytes: int
    os: str
    kernel: str
    governor: str | None
    power_mode: str | None
    boot_id: str
    agent_version: str
    python_version: str
    runtimes: tuple[RuntimeFacts, ...] = ()
    samplers: tuple[SamplerFacts, ...] = ()
    capabilities: tuple[str, ...] = ()

    @property
    def labels(self) -> Mapping[str, str]:
        """What the agent's own settings label the device with."""
        pairs = (word[len(LABEL) :] for word in self.capabilities if word.startswith(LABEL))
        return {key: value for key, _, value in (pair.partition("=") for pair in pairs)}
