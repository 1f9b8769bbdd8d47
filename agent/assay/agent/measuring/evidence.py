"""All that is known of one run, and the figures the guard reads off it; pure, free of numpy."""

from __future__ import annotations

import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from assay.agent.devices.state import DeviceState, StateChange, difference
from assay.agent.measuring.settle import Settled
from assay.agent.samplers.recording import Series, of_quantity
from assay.core.model import (
    Conditions,
    Isolation,
    Mode,
    Reason,
    RunSpec,
    ScenarioKind,
    WorkerReport,
)

MAX_UNWATCHED_NS = 5_000_000_000
"""Twice a second is the pace of the firmware's bits, and one call may take two seconds."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of one run. ``series`` are the sampler's over the whole run, ``idle`` a
    window in which the board rested, ``processor_labels`` what its own thermal zones are called."""

    run: RunSpec
    report: WorkerReport
    before: DeviceState
    after: DeviceState
    series: Mapping[str, Series] = field(default_factory=dict)
    measure_cpus: tuple[int, ...] = ()
    housekeeping_cpus: tuple[int, ...] = ()
    isolation: Isolation = Isolation.NONE
    settled: Settled = field(default_factory=lambda: Settled(0, None, timed_out=False))
    idle: tuple[int, int] | None = None
    processor_labels: frozenset[str] = frozenset()
    extra: tuple[Reason, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def change(self) -> StateChange:
        """What happened to the board from before to after."""
        return difference(self.before, self.after)

    def timed(self, quantity: str) -> dict[str, list[float]]:
        """The values of each series of a quantity inside the timed part."""
        window = (self.report.timed_start_ns, self.report.timed_end_ns)
        return {key: _cut(one, *window) for key, one in of_quantity(self.series, quantity).items()}

    def watched(self, quantity: str) -> bool:
        """Whether a series of a quantity was read all through the timed part: a sensor that fell
        silent on the way saw nothing of the rest."""
        start, end = self.report.timed_start_ns, self.report.timed_end_ns
        for one in of_quantity(self.series, quantity).values():
            inside = [t for t in one.t_ns if start <= t <= end]
            gaps = [b - a for a, b in pairwise([start, *inside, end])]
            if len(inside) > 1 and max(gaps) <= MAX_UNWATCHED_NS:
                return True
        return False

    @property
    def is_open(self) -> bool:
        """Whether queries came on a schedule, so that the CPU rested between them."""
        scenario = self.run.scenario
        return scenario.kind is ScenarioKind.SERVER or scenario.mode is Mode.PACED

    @property
    def timed_s(self) -> float:
        """Length of the timed part, its pauses included."""
        return (self.report.timed_end_ns - self.report.timed_start_ns) / 1e9

    @property
    def wall_per_cpu(self) -> float | None:
        """Of the timed blocks."""
        report = self.report
        if report.latency is None or report.cpu_ns <= 0:
            return None
        return report.latency.duration_ns / report.cpu_ns

    @property
    def steal_share(self) -> float | None:
        """Of the measured CPUs by the worker; of all CPUs over the whole run where it could not."""
        share = self.report.steal_share
        return share if share is not None else self.change.steal_share

    @property
    def psi_share(self) -> float | None:
        """By the worker over the timed part; over the whole run where it could not."""
        share = self.report.psi_cpu_some_share
        return share if share is not None else self.change.psi_cpu_some_share

    def measured_clocks_hz(self) -> list[float]:
        """Readings of the measured CPUs' domain in the timed part: the firmware's own where there
        is one, else cpufreq's. Domains are named by their first CPU."""
        firmware = [v for values in self.timed("firmware_clock").values() for v in values]
        if len(firmware) > 1:
            return firmware
        domains = {
            int(name[3:]): values
            for key, values in self.timed("cpu_clock").items()
            if (name := key.rpartition(".")[2])[:3] == "cpu" and name[3:].isdigit()
        }
        wanted = {
            max((first for first in domains if first <= cpu), default=None)
            for cpu in self.measure_cpus
        }
        return [value for first in wanted if first is not None for value in domains[first]]

    def rates(self, quantity: str, window: tuple[int, int]) -> dict[str, float]:
        """The rise per second of each counter of a quantity inside ``window``."""
        found = {}
        for key, one in of_quantity(self.series, quantity).items():
            rate = _rate(one, *window)
            if rate is not None:
                found[key] = rate
        return found


def conditions(evidence: Evidence, findings: Mapping[str, str]) -> Conditions:
    """The state of the board around the timed part."""
    report, before, after = evidence.report, evidence.before, evidence.after
    clocks = evidence.measured_clocks_hz()
    temperatures = [
        value
        for key, values in evidence.timed("temperature").items()
        if key.partition(".")[2] in evidence.processor_labels
        for value in values
    ]
    temperatures += [t for t in (before.temperature_c, after.temperature_c) if t is not None]
    return Conditions(
        isolation=evidence.isolation,
        measure_cpus=evidence.measure_cpus,
        housekeeping_cpus=evidence.housekeeping_cpus,
        temperature_start_c=before.temperature_c,
        temperature_end_c=after.temperature_c,
        temperature_max_c=max(temperatures, default=None),
        clock_median_hz=statistics.median(clocks) if clocks else None,
        clock_min_hz=min(clocks, default=None),
        settle_ns=evidence.settled.waited_ns,
        warmup_ns=report.warmup_ns,
        warmup_queries=report.warmup_queries,
        wall_per_cpu=evidence.wall_per_cpu or 0.0,
        involuntary_switches=report.involuntary_switches,
        major_faults=report.major_faults,
        steal_share=evidence.steal_share,
        psi_cpu_some_share=evidence.psi_share,
        drift=report.drift,
        notes={**report.notes, **_shares(report), **findings, **evidence.notes},
    )


def _shares(report: WorkerReport) -> dict[str, str]:
    values = {
        "background_share": report.background_share,
        "run_delay_share": report.run_delay_share,
        "clock_probe_change": report.clock_probe_change,
    }
    return {name: f"{value:.4f}" for name, value in values.items() if value is not None}


def _cut(series: Series, start_ns: int, end_ns: int) -> list[float]:
    first, last = bisect_left(series.t_ns, start_ns), bisect_right(series.t_ns, end_ns)
    return list(series.value[first:last])


def _rate(series: Series, start_ns: int, end_ns: int) -> float | None:
    """The rise of a counter per second between its first and last reading in a window."""
    first, last = bisect_left(series.t_ns, start_ns), bisect_right(series.t_ns, end_ns) - 1
    if last <= first:
        return None
    seconds = (series.t_ns[last] - series.t_ns[first]) / 1e9
    return (series.value[last] - series.value[first]) / seconds if seconds > 0 else None
