"""The processor: its name, features and clusters, from ``/proc/cpuinfo`` and cpufreq."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from assay.agent.devices.clocks import clock_domains
from assay.agent.devices.cores import core_name, core_rank
from assay.agent.sysroot import maybe_int, maybe_text, parse_cpu_list
from assay.core.model import CpuCluster, CpuFacts

# Favoured cores of one cluster differ a little in their turbo clock (5.0 and 5.2 GHz).
_SAME_CLOCK = 0.05
# An old kernel writes features once for all cores, and old Arm files spell some keys apart.
_FIELD = re.compile(r"^([^:]+?)\s*:\s*(.*?)\s*$")

# What a benchmark wants to know, as capability words; the kernel's flag -> ours.
_FEATURES = {
    "asimd": "neon",
    "neon": "neon",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "asimdhp": "fp16",
    "bf16": "bf16",
    "sve": "sve",
    "sve2": "sve2",
    "sme": "sme",
    "avx2": "avx2",
    "fma": "fma",
    "f16c": "f16c",
    "avx512f": "avx512",
    "avx512_vnni": "avx512_vnni",
    "avx_vnni": "avx_vnni",
    "avx512_bf16": "avx512_bf16",
    "avx512_fp16": "avx512_fp16",
    "amx_int8": "amx_int8",
    "amx_bf16": "amx_bf16",
    "hypervisor": "virtualised",
}


@dataclass(frozen=True, slots=True)
class CpuInfo:
    """``/proc/cpuinfo`` taken apart: one mapping per CPU, and the lines about the whole board."""

    cpus: Mapping[int, Mapping[str, str]]
    board: Mapping[str, str] = field(default_factory=dict)

    def value(self, key: str) -> str:
        """The first value of ``key`` among board and CPUs; empty if none has it."""
        for fields in (self.board, *self.cpus.values()):
            if fields.get(key):
                return fields[key]
        return ""


def parse_cpuinfo(text: str) -> CpuInfo:
    """Takes x86, arm64 and the many shapes of 32-bit and vendor Arm files; never raises.

    Lines that stand outside any CPU's block (``Hardware``, ``Model``, an old kernel's shared
    ``Features``) are about the board.
    """
    cpus: dict[int, dict[str, str]] = {}
    board: dict[str, str] = {}
    block: dict[str, str] = board
    for line in text.splitlines():
        match = _FIELD.match(line)
        if match is None:
            if not line.strip() and len(cpus.get(max(cpus, default=-1), {})) > 1:
                block = board
            continue
        key, value = match.group(1).strip(), match.group(2)
        if key == "processor" and value.isdigit():
            block = cpus.setdefault(int(value), {})
        elif key in ("Hardware", "Revision", "Serial", "Model", "Processor"):
            board[key] = value
        else:
            block[key] = value
    return CpuInfo(cpus, board)


def read_cpu_facts(sysroot: Path) -> CpuFacts:
    """The processor under ``sysroot``; clusters from the fastest to the slowest."""
    info = parse_cpuinfo(maybe_text(sysroot / "proc/cpuinfo") or "")
    clusters = _clusters(sysroot, info)
    return CpuFacts(
        model=_model(info),
        architecture=_architecture(sysroot, info),
        flags=_flags(info),
        clusters=clusters,
    )


def cpu_capabilities(flags: Iterable[str]) -> tuple[str, ...]:
    """The features that decide how fast a quantised model can be, in our words."""
    held = set(flags)
    return tuple(dict.fromkeys(word for flag, word in _FEATURES.items() if flag in held))


def online_cpus(sysroot: Path, info: CpuInfo) -> tuple[int, ...]:
    """CPUs the kernel runs on; by cpuinfo where sysfs is missing."""
    text = maybe_text(sysroot / "sys/devices/system/cpu/online")
    return parse_cpu_list(text or "") or tuple(sorted(info.cpus))


def _flags(info: CpuInfo) -> tuple[str, ...]:
    """What every CPU can do, in the kernel's order: a thread may land on any of them."""
    lists = [
        fields[key].split()
        for fields in (*info.cpus.values(), info.board)
        for key in ("flags", "Features")
        if fields.get(key)
    ]
    if not lists:
        return ()
    shared = set(lists[0]).intersection(*lists[1:])
    return tuple(flag for flag in dict.fromkeys(lists[0]) if flag in shared)


def _architecture(sysroot: Path, info: CpuInfo) -> str:
    """As ``uname -m`` says it; a recording has no uname, so from cpuinfo there."""
    if sysroot == Path("/"):
        return os.uname().machine
    if info.value("vendor_id") and info.value("flags"):
        return "x86_64" if "lm" in info.value("flags").split() else "i686"
    features = set(info.value("Features").split())
    if info.value("CPU architecture") == "AArch64" or {"asimd", "fp"} <= features:
        return "aarch64"
    named = info.value("model name") + info.value("Processor")
    if "v6" in named:
        return "armv6l"
    return "armv7l" if info.value("CPU architecture") in ("7", "8") or "v7" in named else "unknown"


def _model(info: CpuInfo) -> str:
    if info.value("vendor_id") and info.value("model name"):
        return info.value("model name")
    identities = _identities(info)
    kinds = Counter(core_name(*identity) for identity in identities.values() if identity)
    if kinds:
        return " + ".join(f"{count}x {name}" for name, count in sorted(kinds.items()))
    shared = next(filter(None, map(_identity, (*info.cpus.values(), info.board))), None)
    if shared is not None:
        return f"{len(info.cpus)} cores, one a {core_name(*shared)}"
    return info.value("model name") or info.value("Processor") or "unknown"


def _identities(info: CpuInfo) -> dict[int, tuple[int, int, int] | None]:
    """(implementer, part, variant) of each CPU.

    An old kernel tells only that of the CPU which happened to read the file: nothing is known of
    the others then, nor which one it was.
    """
    found = {cpu: _identity(fields) for cpu, fields in info.cpus.items()}
    complete = all(found.values()) or len(found) == 1
    return found if complete else dict.fromkeys(found)


def _identity(fields: Mapping[str, str]) -> tuple[int, int, int] | None:
    try:
        return (
            int(fields["CPU implementer"], 16),
            int(fields["CPU part"], 16),
            int(fields.get("CPU variant", "0"), 16),
        )
    except (KeyError, ValueError):
        return None


def _clusters(sysroot: Path, info: CpuInfo) -> tuple[CpuCluster, ...]:
    """CPUs of one core kind whose clocks are alike; fastest first."""
    identities = _identities(info)
    max_hz = _max_clocks(sysroot)
    groups: dict[tuple[object, ...], list[int]] = {}
    for cpu in online_cpus(sysroot, info):
        identity = identities.get(cpu)
        key = (identity, _alike(max_hz.get(cpu), [k[1] for k in groups if k[0] == identity]))
        groups.setdefault(key, []).append(cpu)
    ranked = sorted(groups.values(), key=lambda cpus: _speed(sysroot, cpus[0], info, max_hz))
    return tuple(
        CpuCluster(tuple(cpus), max((max_hz[c] for c in cpus if c in max_hz), default=None))
        for cpus in reversed(ranked)
    )


def _alike(hz: int | None, known: list[object]) -> int | None:
    """The clock of a group this one belongs to, or its own."""
    for other in known:
        if hz is not None and isinstance(other, int) and abs(hz - other) <= _SAME_CLOCK * other:
            return other
    return hz


def _speed(
    sysroot: Path, cpu: int, info: CpuInfo, max_hz: Mapping[int, int]
) -> tuple[int, int, int, int]:
    """Orders clusters: by the kernel's own capacity, the kind of core, the clock."""
    capacity = maybe_int(sysroot / f"sys/devices/system/cpu/cpu{cpu}/cpu_capacity")
    identity = _identities(info).get(cpu)
    rank = core_rank(*identity) if identity else 0
    return capacity or 0, rank, max_hz.get(cpu, 0), -cpu


def _max_clocks(sysroot: Path) -> dict[int, int]:
    clocks = {}
    for domain in clock_domains(sysroot):
        khz = maybe_int(domain.folder / "cpuinfo_max_freq")
        clocks.update(dict.fromkeys(domain.cpus, khz * 1000) if khz else {})
    return clocks
