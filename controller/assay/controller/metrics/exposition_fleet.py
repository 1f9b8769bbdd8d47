"""The fleet and the running sweeps as Prometheus samples. Pure; see :mod:`exposition`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from assay.controller.metrics.exposition import Sample
from assay.controller.metrics.text import Families, Labels
from assay.controller.metrics.vitals import Reach, Vitals, expected_by_ns
from assay.controller.planning.health import must_show_health
from assay.controller.planning.progress import Progress, measure_progress
from assay.controller.records import (
    DeviceRecord,
    DeviceState,
    Duty,
    ResultRecord,
    RoundRecord,
    RoundState,
    SweepRecord,
    SweepState,
)
from assay.core.model import FailureClass, VerdictKind

SHOWN_SWEEPS = 5
_SECOND_NS = 1e9
_MEASURING = ("settling", "warming", "measuring")
_AGES = {
    "assay_lease_age_seconds": RoundState.LEASED,
    "assay_queue_age_seconds": RoundState.QUEUED,
}
_AGE_QUANTILES = (0.5, 0.9, 1.0)


@dataclass(frozen=True, slots=True)
class DeviceView:
    """A device with all that is known of it at one moment; ``rounds`` are those of running sweeps
    by state."""

    record: DeviceRecord
    vitals: Vitals | None
    reach: Reach
    rounds: Mapping[RoundState, int]


@dataclass(frozen=True, slots=True)
class SweepView:
    """A sweep with its progress; ``progress_ns`` is its newest result's time."""

    record: SweepRecord
    progress: Progress
    failures: Mapping[str, int]
    progress_ns: int


def shown_sweeps(sweeps: Sequence[SweepRecord]) -> list[SweepRecord]:
    """Those whose name may be a label: every running one and the newest few."""
    newest = sorted(sweeps, key=lambda s: s.created_ns, reverse=True)
    keep = {s.sweep_id for s in newest[:SHOWN_SWEEPS]}
    return [s for s in newest if s.sweep_id in keep or s.state is SweepState.RUNNING]


def view_of(
    record: SweepRecord, rounds: Sequence[RoundRecord], results: Sequence[ResultRecord]
) -> SweepView:
    """How far a sweep is, by its own results."""
    progress = measure_progress(record, rounds, results)
    failures = Counter(r.result.failure.failure_class.value for r in results if r.result.failure)
    newest = max((r.recorded_ns for r in results), default=record.created_ns)
    return SweepView(record, progress, failures, newest)


def rounds_by_device(rounds: Iterable[RoundRecord]) -> dict[str, Counter[RoundState]]:
    """How many rounds of each state every device has."""
    found: dict[str, Counter[RoundState]] = {}
    for each in rounds:
        found.setdefault(each.device_id, Counter())[each.state] += 1
    return found


def ages(rounds: Iterable[RoundRecord], now_ns: int) -> Iterator[Sample]:
    """How long leases and queued rounds have been that."""
    since: dict[RoundState, list[int]] = {}
    for each in rounds:
        since.setdefault(each.state, []).append(each.since_ns)
    for name, state in _AGES.items():
        # The longest age belongs to the earliest time.
        times = sorted(since.get(state, ()), reverse=True)
        for quantile in _AGE_QUANTILES if times else ():
            at_ns = times[max(0, math.ceil(quantile * len(times)) - 1)]
            yield name, (f"{quantile:g}",), max(0, now_ns - at_ns) / _SECOND_NS


def plane_page(
    devices: Iterable[DeviceView], sweeps: Iterable[SweepView], plane: Iterable[Sample]
) -> bytes:
    """The page's part about devices, sweeps and the controller itself."""
    families = Families()
    for device in devices:
        for sample in _device_samples(device):
            families.add(*sample)
    for sweep in sweeps:
        for sample in _sweep_samples(sweep):
            families.add(*sample)
    for sample in plane:
        families.add(*sample)
    return families.page()


def _device_samples(view: DeviceView) -> Iterator[Sample]:
    device, facts = view.record, view.record.facts
    here = (facts.device_class if facts else "", device.name)
    yield "assay_device_active", here, float(device.state is DeviceState.ACTIVE)
    for duty in Duty:
        yield "assay_device_duty", (*here, duty.value), float(device.duty is duty)
    yield "assay_device_taken_off_duty", here, float(must_show_health(device))
    expiry_s = device.certificate_not_after_ns / _SECOND_NS
    yield "assay_device_certificate_expiry_timestamp_seconds", here, expiry_s
    for reach in Reach:
        yield "assay_device_state", (*here, reach.value), float(view.reach is reach)
    for state in (RoundState.QUEUED, RoundState.LEASED):
        yield "assay_device_rounds", (*here, state.value), view.rounds.get(state, 0)
    seen_ns = max(device.last_seen_ns or 0, view.vitals.seen_ns if view.vitals else 0)
    if seen_ns:
        yield "assay_device_last_seen_timestamp_seconds", here, seen_ns / _SECOND_NS
    expected_s = expected_by_ns(device, view.vitals) / _SECOND_NS
    yield "assay_device_expected_by_timestamp_seconds", here, expected_s
    if view.vitals is not None:
        yield from _vital_samples(here, view.vitals)
    if facts is None:
        return
    about = (facts.board, facts.cpu.model, facts.os, facts.kernel, facts.governor or "")
    yield "assay_device_info", (*here, *about, facts.agent_version), 1
    yield "assay_device_memory_bytes", here, facts.memory_total_bytes
    for sampler in facts.samplers:
        yield "assay_sampler_success", (*here, sampler.name), float(not sampler.absent_reason)


def _vital_samples(here: Labels, vitals: Vitals) -> Iterator[Sample]:
    yield "assay_device_accepting", here, float(vitals.accepting)
    yield "assay_device_measuring", here, float(vitals.doing in _MEASURING)
    if vitals.temperature_c is not None:
        yield "assay_device_temperature_celsius", here, vitals.temperature_c
    yield "assay_device_memory_available_bytes", here, vitals.memory_available_bytes
    yield "assay_device_disk_free_bytes", here, vitals.disk_free_bytes
    yield "assay_device_spool_entries", here, vitals.spool_entries
    yield "assay_device_spool_bytes", here, vitals.spool_bytes
    yield "assay_device_throttled", here, float(vitals.throttled)


def _sweep_samples(view: SweepView) -> Iterator[Sample]:
    name, progress = (view.record.name,), view.progress
    yield "assay_sweep_running", name, float(view.record.state is SweepState.RUNNING)
    yield "assay_sweep_runs", (*name, "done"), progress.runs_done
    yield "assay_sweep_runs", (*name, "waiting"), progress.runs_total - progress.runs_done
    yield "assay_sweep_left_seconds", name, progress.left_ns / _SECOND_NS
    for kind in VerdictKind:
        verdict = kind.value
        yield "assay_sweep_results", (*name, verdict), progress.verdicts.get(verdict, 0)
    for failure in FailureClass:
        yield "assay_sweep_failures", (*name, failure.value), view.failures.get(failure.value, 0)
    started_s = view.record.created_ns / _SECOND_NS
    yield "assay_sweep_start_timestamp_seconds", name, started_s
    yield "assay_sweep_progress_timestamp_seconds", name, view.progress_ns / _SECOND_NS
