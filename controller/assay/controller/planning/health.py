"""Coming back from quarantine: a device measures its canary once before it is given work again.

The trial is an ordinary sweep of one round, of a priority nothing else has; a device on PROBATION
is granted no other. What it must show is that it can run the model everyone can run.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

from assay.controller.records import (
    HEALTH_PRIORITY,
    CellRecord,
    DeviceRecord,
    Duty,
    ResultRecord,
    RoundRecord,
    RoundState,
    SweepRecord,
    SweepState,
)
from assay.controller.store.base import Store
from assay.core.errors import NotFound
from assay.core.model import RunSpec


@dataclass(frozen=True, slots=True)
class Trial:
    """A sweep that tries one device."""

    sweep: SweepRecord
    cell: CellRecord
    round: RoundRecord


def make_trial(device: DeviceRecord, canary: RunSpec, sweep_id: str, now_ns: int) -> Trial:
    """One round of ``canary`` alone on the device."""
    sweep = SweepRecord(
        sweep_id=sweep_id,
        name=f"health-{device.name}-{sweep_id}",
        spec_json="{}",
        seed=canary.seed,
        rounds=1,
        state=SweepState.RUNNING,
        created_ns=now_ns,
        priority=HEALTH_PRIORITY,
    )
    round_id = f"{sweep_id}-0"
    run = replace(canary, attempt_id=f"{round_id}-0")
    cell = CellRecord(run.cell_key, sweep_id, device.device_id, "health", run, baseline=True)
    queued = RoundRecord(
        round_id, sweep_id, device.device_id, "health", 0, RoundState.QUEUED, 0, (run,)
    )
    return Trial(sweep, cell, queued)


def judged(device: DeviceRecord, results: Sequence[ResultRecord]) -> DeviceRecord:
    """The device after its trial: on duty where a run ended without failure, else cordoned. One
    that an operator has put on another duty meanwhile stays as it is."""
    if device.duty is not Duty.PROBATION:
        return device
    if any(record.result.failure is None for record in results):
        return replace(device, duty=Duty.ON, duty_reason="")
    failures = [record.result.failure for record in results]
    why = next((failure.code for failure in failures if failure is not None), "no result came")
    return replace(device, duty=Duty.CORDONED, duty_reason=f"its health canary failed: {why}")


def put_on_trial(store: Store, device: DeviceRecord, now_ns: int) -> DeviceRecord:
    """Queues a trial and returns the device on PROBATION; unchanged where it never was given a
    canary that it could show its health by."""
    canary = _last_canary(store, device.device_id)
    if canary is None:
        return device
    trial = make_trial(device, canary, uuid.uuid4().hex[:12], now_ns)
    store.add_sweep(trial.sweep, [trial.cell], [trial.round])
    return replace(device, duty=Duty.PROBATION, duty_reason="back from quarantine")


def conclude(store: Store, sweep: SweepRecord) -> None:
    """Ends the probation of the device a finished sweep tried; nothing for other sweeps."""
    if sweep.priority != HEALTH_PRIORITY:
        return
    results = store.results(sweep_id=sweep.sweep_id)
    for cell in store.cells(sweep.sweep_id):
        try:
            device = store.device(cell.device_id)
        except NotFound:
            continue
        after = judged(device, results)
        if after != device:
            store.update_device(after)


def _last_canary(store: Store, device_id: str) -> RunSpec | None:
    newest_first = sorted(store.sweeps(), key=lambda sweep: sweep.created_ns, reverse=True)
    for sweep in newest_first:
        for cell in store.cells(sweep.sweep_id):
            if cell.device_id == device_id and cell.run.canary:
                return cell.run
    return None
