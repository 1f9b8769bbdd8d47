"""In and out of duty: a device whose rounds come to nothing is cordoned by itself; one that comes
back, from there or from quarantine, measures its canary once before it is given work again.

The trial is an ordinary sweep of one round, of a priority nothing else has; a device on PROBATION
is granted no other. What it must show is that it can run the model everyone can run.
"""

from __future__ import annotations

import contextlib
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from assay.controller.planning.timers import QUEUE_TIMEOUT, trouble_code
from assay.controller.records import (
    HEALTH_PRIORITY,
    CellRecord,
    DeviceRecord,
    DeviceState,
    Duty,
    Outcome,
    ResultRecord,
    RoundRecord,
    RoundState,
    SweepRecord,
    SweepState,
)
from assay.controller.store.base import Store
from assay.core.errors import NotFound
from assay.core.model import FailureClass, RunSpec

STRIKES = 3
"""So many rounds of a device in a row that came to nothing, by no fault of a model, and it is
cordoned."""

FEW = 3
"""Fewer devices than this may be at fault at once; from here on, and where it is most of those that
worked, what they share is."""

_BY_ITSELF = "taken off duty: "


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
        round_id,
        sweep_id,
        device.device_id,
        "health",
        0,
        RoundState.QUEUED,
        0,
        (run,),
        since_ns=now_ns,
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
    reason = f"{_BY_ITSELF}its health canary failed: {why}"
    return replace(device, duty=Duty.CORDONED, duty_reason=reason)


def struck_out(device: DeviceRecord, outcomes: Sequence[Outcome]) -> DeviceRecord:
    """The device after its last rounds, the newest first: cordoned where :data:`STRIKES` of them in
    a row came to nothing and the device may be at fault, else as it is.

    A round comes to nothing where it failed as a whole under a lease, or where none of its runs
    came to an end and at least one failed for want of infrastructure or by the device. Failures of
    one variant alone speak against the variant.
    """
    last = outcomes[:STRIKES]
    if device.state is not DeviceState.ACTIVE or device.duty is not Duty.ON:
        return device
    if len(last) < STRIKES or not all(_came_to_nothing(outcome) for outcome in last):
        return device
    blamed = {failed.variant_id for outcome in last for failed in outcome.failures}
    if len(blamed) < 2 and not any(_lost(outcome) for outcome in last):
        return device
    codes = Counter(code for outcome in last for code in set(_codes(outcome)))
    said = ", ".join(f"{code} ({n})" for code, n in sorted(codes.items()))
    reason = f"{_BY_ITSELF}{STRIKES} rounds in a row came to nothing: {said}"
    return replace(device, duty=Duty.CORDONED, duty_reason=reason)


def is_shared_trouble(struck: int, worked: int) -> bool:
    """Whether so many devices out of those that ended rounds lately speak against the controller,
    its network or its files rather than against each device."""
    return struck >= FEW and 2 * struck > worked


def must_show_health(device: DeviceRecord) -> bool:
    """Whether a cordoned device comes back by its canary: no operator has cordoned it."""
    return device.duty is Duty.CORDONED and device.duty_reason.startswith(_BY_ITSELF)


def _came_to_nothing(outcome: Outcome) -> bool:
    at_fault = (FailureClass.INFRA, FailureClass.DEVICE)
    failed = any(one.failure.failure_class in at_fault for one in outcome.failures)
    return not outcome.sound and (_lost(outcome) or failed)


def _lost(outcome: Outcome) -> bool:
    """Whether a round failed in the hands of its device, not for want of hands."""
    return outcome.failed and trouble_code(outcome.trouble) != QUEUE_TIMEOUT


def _codes(outcome: Outcome) -> list[str]:
    of_runs = [one.failure.code for one in outcome.failures]
    return of_runs or [trouble_code(outcome.trouble) or "no result"]


def put_on_trial(store: Store, device: DeviceRecord, now_ns: int) -> bool:
    """Queues a trial for the device, which is to go on probation (:func:`on_probation`); False
    where it never was given a canary that it could show its health by."""
    canary = _last_canary(store, device.device_id)
    if canary is None:
        return False
    trial = make_trial(device, canary, uuid.uuid4().hex[:12], now_ns)
    store.add_sweep(trial.sweep, [trial.cell], [trial.round])
    return True


def on_probation(device: DeviceRecord) -> DeviceRecord:
    """The device while its trial lasts."""
    return replace(device, duty=Duty.PROBATION, duty_reason="its health canary comes first")


def conclude(store: Store, sweep: SweepRecord) -> None:
    """Ends the probation of the device a finished sweep tried; nothing for other sweeps."""
    if sweep.priority != HEALTH_PRIORITY:
        return
    results = store.results(sweep_id=sweep.sweep_id)
    for cell in store.cells(sweep.sweep_id):
        with contextlib.suppress(NotFound):
            store.change_device(cell.device_id, lambda device: judged(device, results))


def _last_canary(store: Store, device_id: str) -> RunSpec | None:
    newest_first = sorted(store.sweeps(), key=lambda sweep: sweep.created_ns, reverse=True)
    for sweep in newest_first:
        for cell in store.cells(sweep.sweep_id):
            if cell.device_id == device_id and cell.run.canary:
                return cell.run
    return None
