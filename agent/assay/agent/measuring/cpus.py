"""Which CPUs the measured work gets, and which everything else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from assay.agent.sysroot import maybe_text, parse_cpu_list
from assay.core.model import CpuFacts, Isolation

Siblings = Mapping[int, frozenset[int]]


@dataclass(frozen=True, slots=True)
class CpuPlan:
    """The worker is pinned to ``measure_cpus``, agent and sampler to ``housekeeping_cpus``.

    ``isolation`` is PINNED where the two are disjoint, else NONE; the worker raises it to
    FIFO_PINNED where the kernel allows that. ``note`` says what could not be had.
    """

    measure_cpus: tuple[int, ...]
    housekeeping_cpus: tuple[int, ...]
    isolation: Isolation
    note: str = ""


def choose_cpus(
    facts: CpuFacts,
    allowed: frozenset[int],
    *,
    threads: int = 1,
    siblings: Siblings | None = None,
) -> CpuPlan:
    """The fastest cluster for the measured work, never CPU 0 where there is a choice.

    ``allowed`` is what the scheduler grants (``os.sched_getaffinity(0)``). Slower clusters are
    added only for more ``threads`` than the fastest can hold. With ``siblings`` (hardware threads
    of one core, see :func:`read_siblings`) a core is measured on one of its threads and its other
    threads are left idle. Raises ``ValueError`` for an empty ``allowed``.
    """
    if not allowed:
        raise ValueError("no CPU is allowed")
    twins = siblings or {}
    reserved = 0 if 0 in allowed else min(_slowest(facts, allowed))
    if len(allowed) == 1:
        note = f"only CPU {reserved} is there: measured work shares it with the agent"
        return CpuPlan((reserved,), (reserved,), Isolation.NONE, note)
    free = _without_core(allowed, reserved, twins)
    measured = _take(facts, _one_per_core(free, twins), threads)
    if len(measured) < threads:
        measured = _take(facts, free, threads)
    if len(measured) < threads:
        everything = tuple(sorted(allowed))
        note = f"{threads} threads need CPU {reserved} too: measured work shares it with the agent"
        return CpuPlan(everything, (reserved,), Isolation.NONE, note)
    rest = allowed - set(measured)
    idle = frozenset().union(*(twins.get(cpu, frozenset()) for cpu in measured))
    return CpuPlan(measured, tuple(sorted(rest - idle or rest)), Isolation.PINNED)


def read_siblings(sysroot: Path = Path("/")) -> dict[int, frozenset[int]]:
    """The hardware threads that share a core with each CPU, itself included; {} if unknown."""
    found: dict[int, frozenset[int]] = {}
    for folder in (sysroot / "sys/devices/system/cpu").glob("cpu[0-9]*"):
        text = maybe_text(folder / "topology/thread_siblings_list")
        if text:
            found[int(folder.name[3:])] = frozenset(parse_cpu_list(text))
    return found


def _slowest(facts: CpuFacts, allowed: frozenset[int]) -> frozenset[int]:
    for cluster in reversed(facts.clusters):
        usable = allowed & frozenset(cluster.cpus)
        if usable:
            return usable
    return allowed


def _without_core(allowed: frozenset[int], cpu: int, twins: Siblings) -> frozenset[int]:
    """``allowed`` without ``cpu``, and without its whole core where another core is left."""
    return (allowed - {cpu} - twins.get(cpu, frozenset())) or allowed - {cpu}


def _one_per_core(cpus: frozenset[int], twins: Siblings) -> frozenset[int]:
    return frozenset(
        cpu for cpu in cpus if cpu == min({cpu} | (twins.get(cpu, frozenset()) & cpus))
    )


def _take(facts: CpuFacts, usable: frozenset[int], threads: int) -> tuple[int, ...]:
    """Whole clusters from the fastest on, until there are ``threads`` CPUs or no more."""
    taken: set[int] = set()
    known = [frozenset(cluster.cpus) for cluster in facts.clusters]
    for cluster in [*known, usable.difference(*known)]:
        if len(taken) >= threads:
            break
        taken |= cluster & usable
    return tuple(sorted(taken))
