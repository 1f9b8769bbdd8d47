"""Between the agent and its worker process, as files in the run's directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from assay.core.model.job import RunSpec
from assay.core.model.result import (
    ColdStart,
    Failure,
    GoldenCheck,
    Isolation,
    Latency,
    MemorySplit,
    Quality,
)


@dataclass(frozen=True, slots=True)
class WorkerOrder:
    """Written by the runner before it starts a worker; ``golden_path`` may be empty.

    ``continuous`` allows no pause between timed blocks, as an energy run needs. ``native_dir`` is
    where the compiled loop is kept; without it runs are timed by the runtime's binding.
    """

    run: RunSpec
    model_path: str
    inputs_path: str
    golden_path: str
    run_dir: str
    measure_cpus: tuple[int, ...]
    continuous: bool = False
    native_dir: str = ""


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What the worker itself could see; times are CLOCK_MONOTONIC nanoseconds.

    Shares are of the timed part's wall time, None where the kernel does not tell.
    ``background_share`` is the busy time of the CPUs that are not measured, ``run_delay_share`` the
    longest time a thread of the worker waited for a CPU, ``clock_probe_change`` a calibrated loop
    after the timed part against before, minus one.
    """

    latency: Latency | None
    cold: ColdStart | None
    memory: MemorySplit | None
    quality: Quality | None
    golden: GoldenCheck | None
    runtime_version: str
    placement: tuple[str, ...]
    isolation: Isolation
    timed_start_ns: int = 0
    timed_end_ns: int = 0
    warmup_ns: int = 0
    warmup_queries: int = 0
    steady: bool = False
    cpu_ns: float = 0.0
    involuntary_switches: int = 0
    major_faults: int = 0
    clock_jump_ns: int = 0
    drift: float = 0.0
    failure: Failure | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    steal_share: float | None = None
    psi_cpu_some_share: float | None = None
    background_share: float | None = None
    run_delay_share: float | None = None
    swapped_pages: int = 0
    clock_probe_change: float | None = None
