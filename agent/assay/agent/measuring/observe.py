"""Watches one run: settles, starts the sampler and the worker, and looks at the board around it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from assay.agent.devices.power import power_absence
from assay.agent.devices.state import DeviceState, read_state
from assay.agent.measuring.cpus import CpuPlan
from assay.agent.measuring.runner import TimeBox, run_worker
from assay.agent.measuring.sampler_process import SamplerProcess, Series
from assay.agent.measuring.settle import Settled, settle
from assay.agent.power.energy import Window
from assay.agent.samplers.recording import troubles
from assay.core.errors import Cancelled
from assay.core.model import (
    DeviceFacts,
    Isolation,
    RunSpec,
    SamplerFacts,
    WorkerOrder,
    WorkerReport,
)

_S = 1_000_000_000
ENERGY_MIN_NS = 30 * _S
"""How long each state must last for an energy reading; shorter profiles have none."""


@dataclass(frozen=True, slots=True)
class RunPaths:
    """Where the verified files of a run lie on this device."""

    model: Path
    inputs: Path
    golden: Path | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """One run and where it happens; ``run_dir`` is empty and the run's alone, ``native_dir`` keeps
    the compiled loop from run to run. ``gauge``: sign and unit of a phone's gauge are known."""

    run: RunSpec
    paths: RunPaths
    device: DeviceFacts
    cpus: CpuPlan
    sysroot: Path
    run_dir: Path
    on_state: Callable[[str], None]
    cancel: threading.Event
    native_dir: Path | None = None
    gauge: bool = False

    @property
    def measure_cpus(self) -> tuple[int, ...]:
        """As many as there are threads: on more, the measured one would wander."""
        if self.cpus.isolation is Isolation.NONE:
            return self.cpus.measure_cpus
        return self.cpus.measure_cpus[-max(self.run.runtime.threads, 1) :]

    @property
    def wants_energy(self) -> bool:
        """Whether there is a power sensor and a profile long enough to read it."""
        return self.run.profile.t_min_ns >= ENERGY_MIN_NS and any(
            not sensor.absent_reason for sensor in self._power_sensors
        )

    @property
    def why_no_energy(self) -> str:
        """The reason where ``wants_energy`` is false."""
        if all(one.absent_reason for one in self._power_sensors):
            return power_absence(self.device.device_class, absent_of(self.device))
        return (
            f"profile {self.run.profile.name} is too short for an energy reading: it takes "
            f"{ENERGY_MIN_NS // _S} s, idle and active"
        )

    @property
    def _power_sensors(self) -> list[SamplerFacts]:
        return [
            one
            for one in self.device.samplers
            if one.unit in ("W", "J") or (self.gauge and one.name == "battery")
        ]

    def isolation(self, report: WorkerReport | None) -> Isolation:
        """What the worker reached, unless the agent shares the CPUs anyhow."""
        if report is None or self.cpus.isolation is Isolation.NONE:
            return Isolation.NONE
        return report.isolation


@dataclass(frozen=True, slots=True)
class Observed:
    """A worker's report with what was seen around it. ``idle`` are windows of rest before and
    after, in runs that read energy; ``sampler_loss`` is why readings are missing, if they are;
    ``absent`` and ``troubles`` tell by sampler why it was not there in this run, and what went
    wrong with it on the way."""

    report: WorkerReport
    before: DeviceState
    after: DeviceState
    settled: Settled
    series: Mapping[str, Series]
    idle: tuple[Window, ...] = ()
    sampler_loss: str = ""
    absent: Mapping[str, str] = field(default_factory=dict)
    troubles: Mapping[str, str] = field(default_factory=dict)


def absent_of(device: DeviceFacts) -> dict[str, str]:
    """Why each sampler is absent that was when the board was looked at, by name."""
    return {one.name: one.absent_reason for one in device.samplers if one.absent_reason}


def observe(setting: Setting, start_limit_c: float | None, sampler_hz: float) -> Observed:
    """Waits for a cool board and runs the worker with the sampler beside it.

    Raises what :func:`assay.agent.measuring.runner.run_worker` does; the sampler is stopped in any
    case.
    """
    profile = setting.run.profile
    setting.on_state("settling")

    def sleep(seconds: float) -> None:
        if setting.cancel.wait(seconds):
            raise Cancelled("the run was cancelled")

    settled = settle(setting.sysroot, start_limit_c, profile.settle_max_ns, sleep)
    before = read_state(setting.sysroot)
    sampler = SamplerProcess.start(
        setting.run_dir / "sampler", setting.cpus.housekeeping_cpus, sampler_hz, setting.sysroot
    )
    idle: list[Window] = []
    try:
        if setting.wants_energy:
            idle.append(_rest(sleep))
        time_box = TimeBox.of(profile)
        report = run_worker(_order(setting), time_box, setting.cancel, setting.on_state)
        after = read_state(setting.sysroot)
        if setting.wants_energy and report.failure is None:
            idle.append(_rest(sleep))
    finally:
        series = sampler.stop()
    return Observed(
        report,
        before,
        after,
        settled,
        series,
        tuple(idle),
        sampler.loss,
        sampler.absent,
        troubles(sampler.counters),
    )


def _order(setting: Setting) -> WorkerOrder:
    golden = setting.paths.golden
    return WorkerOrder(
        run=setting.run,
        model_path=str(setting.paths.model.absolute()),
        inputs_path=str(setting.paths.inputs.absolute()),
        golden_path=str(golden.absolute()) if golden is not None else "",
        run_dir=str(setting.run_dir.absolute()),
        measure_cpus=setting.measure_cpus,
        continuous=setting.wants_energy,
        native_dir=str(setting.native_dir.absolute()) if setting.native_dir is not None else "",
    )


def _rest(sleep: Callable[[float], None]) -> Window:
    begin = time.monotonic_ns()
    sleep(ENERGY_MIN_NS / _S)
    return Window(begin, time.monotonic_ns())
