"""Keeps the agent's own threads off the CPUs it measures on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from assay.agent.config import AgentConfig
from assay.agent.measuring.cpus import CpuPlan, choose_cpus, read_siblings
from assay.core.errors import UsageError
from assay.core.model import CpuFacts, Isolation


class CpuChooser:
    """Plans CPUs run by run; made before anything is pinned, when the process may still use all."""

    def __init__(self, config: AgentConfig, allowed: frozenset[int] | None = None) -> None:
        self._config = config
        self._allowed = allowed or frozenset(os.sched_getaffinity(0))
        self._siblings = read_siblings(config.sysroot)
        for name in ("measure_cpus", "housekeeping_cpus"):
            wrong = set(getattr(config, name) or ()) - self._allowed
            if wrong:
                raise UsageError(
                    f"{name}: this agent may not use CPU {sorted(wrong)}; it may use "
                    f"{sorted(self._allowed)}"
                )

    def plan(self, facts: CpuFacts, threads: int) -> CpuPlan:
        """Which CPUs a run with so many threads gets; what the configuration says goes first."""
        plan = choose_cpus(facts, self._allowed, threads=threads, siblings=self._siblings)
        wanted = self._config.measure_cpus, self._config.housekeeping_cpus
        if wanted == (None, None):
            return plan
        measured = wanted[0] or tuple(set(plan.measure_cpus) - set(wanted[1] or ()))
        measured = measured or plan.measure_cpus
        rest = tuple(sorted(self._allowed - set(measured)))
        housekeeping = wanted[1] or rest or plan.housekeeping_cpus
        disjoint = not set(measured) & set(housekeeping)
        isolation = Isolation.PINNED if disjoint else Isolation.NONE
        note = "" if disjoint else "measured work shares CPUs with the agent, as configured"
        return CpuPlan(tuple(sorted(measured)), tuple(sorted(housekeeping)), isolation, note)


def pin_threads(cpus: Iterable[int]) -> None:
    """Moves every thread of this process to ``cpus``; threads begun later follow their parents."""
    wanted = frozenset(cpus)
    for task in Path("/proc/self/task").iterdir():
        # A thread may have ended meanwhile; a container may forbid it.
        with contextlib.suppress(OSError):
            os.sched_setaffinity(int(task.name), wanted)
