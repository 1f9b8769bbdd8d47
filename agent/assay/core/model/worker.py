"""Between the agent and its worker process, as files in the run's directory."""

from __future__ import annotations

from dataclasses import dataclass

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
    """Written by the runner before it starts a worker; ``golden_path`` may be empty."""

    run: RunSpec
    model_path: str
    inputs_path: str
    golden_path: str
    run_dir: str
    measure_cpus: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What the worker itself could see; times are CLOCK_MONOTONIC nanoseconds."""

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
