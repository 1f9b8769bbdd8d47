"""Rounds going out to devices and coming back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    CursorResult,
    Integer,
    Row,
    String,
    and_,
    bindparam,
    exists,
    insert,
    or_,
    select,
    update,
)

from assay.controller.records import (
    HEALTH_PRIORITY,
    Admission,
    DeviceState,
    Duty,
    HeldRound,
    LeaseBox,
    RoundRecord,
    RoundState,
    Standing,
    SweepState,
    Wishes,
)
from assay.controller.store.schema import (
    attempts,
    devices,
    results,
    round_artifacts,
    rounds,
    sweeps,
)
from assay.controller.store.tables import sharing
from assay.controller.store.tables.sweeps import round_record
from assay.core.convert import from_bytes, to_bytes
from assay.core.errors import NotFound
from assay.core.model import Round

# The statements of every Sync, built once.
_DEVICE = bindparam("device_id", type_=String)
_QUEUE_HEAD = 20
_ADMISSION = select(devices.c.name, devices.c.state, devices.c.duty).where(
    devices.c.device_id == _DEVICE
)
_MAY_BE_GRANTED = and_(
    devices.c.state == DeviceState.ACTIVE.value,
    or_(
        devices.c.duty == Duty.ON.value,
        and_(devices.c.duty == Duty.PROBATION.value, sweeps.c.priority >= HEALTH_PRIORITY),
    ),
)
_QUEUE = (
    select(rounds)
    .join(sweeps, sweeps.c.sweep_id == rounds.c.sweep_id)
    .join(devices, devices.c.device_id == rounds.c.device_id)
    .where(
        rounds.c.device_id == _DEVICE,
        rounds.c.state == RoundState.QUEUED.value,
        sweeps.c.state == SweepState.RUNNING.value,
        _MAY_BE_GRANTED,
    )
    # Sweeps of one priority take turns, round by round: a long one does not shut out a new one.
    .order_by(
        sweeps.c.priority.desc(),
        rounds.c.position,
        sweeps.c.created_ns,
        sweeps.c.sweep_id,
        rounds.c.grouping,
        rounds.c.round_id,
    )
)
_HELD = (
    select(rounds.c.body, rounds.c.accepted, sweeps.c.state)
    .join(sweeps, sweeps.c.sweep_id == rounds.c.sweep_id)
    .where(rounds.c.device_id == _DEVICE, rounds.c.state == RoundState.LEASED.value)
    .order_by(rounds.c.round_id)
)
_QUEUE_START = _QUEUE.with_only_columns(rounds.c.round_id, rounds.c.fence).limit(
    bindparam("head", type_=Integer)
)


def admission(tx: Connection, device_id: str) -> Admission:
    """Name and state of a device."""
    row = tx.execute(_ADMISSION, {"device_id": device_id}).first()
    if row is None:
        raise NotFound(f"no device {device_id!r}")
    return Admission(device_id, row.name, DeviceState(row.state), Duty(row.duty))


def standing(tx: Connection, device_id: str, beyond: int) -> Standing:
    """All that one Sync is decided by."""
    queue = tx.execute(_QUEUE_START, {"device_id": device_id, "head": _QUEUE_HEAD + beyond})
    return Standing(
        device=admission(tx, device_id),
        leased=tuple(held(tx, device_id)),
        queued=tuple((row.round_id, row.fence) for row in queue),
    )


def queued(tx: Connection, device_id: str, limit: int) -> list[RoundRecord]:
    """In the order they would be granted."""
    rows = tx.execute(_QUEUE.limit(limit), {"device_id": device_id})
    return [round_record(row) for row in rows]


def lease(
    tx: Connection, device_id: str, box: LeaseBox, now_ns: int, round_id: str | None
) -> Round | None:
    """Grants one round; see :meth:`Store.lease_round`."""
    device = tx.execute(
        select(devices.c.state, devices.c.shares)
        .where(devices.c.device_id == device_id)
        .with_for_update()
    ).first()
    if device is None:
        raise NotFound(f"no device {device_id!r}")
    if device.state != DeviceState.ACTIVE.value or _holds_one(tx, device_id):
        return None
    if device.shares and sharing.split(device.shares) & sharing.busy(tx):
        return None
    query = _QUEUE.limit(1).with_for_update(of=rounds, skip_locked=True)
    if round_id is not None:
        query = query.where(rounds.c.round_id == round_id)
    row = tx.execute(query, {"device_id": device_id}).first()
    return None if row is None else _grant(tx, row, box, now_ns)


def held(tx: Connection, device_id: str) -> list[HeldRound]:
    """Every round leased to the device."""
    rows = tx.execute(_HELD, {"device_id": device_id})
    return [
        HeldRound(from_bytes(body, Round), accepted, state == SweepState.CANCELLED.value)
        for body, accepted, state in rows
    ]


def wishes(tx: Connection) -> Wishes:
    """Queued and leased rounds of running sweeps, all devices at once."""
    running = select(sweeps.c.sweep_id).where(sweeps.c.state == SweepState.RUNNING.value)
    of_running = select(rounds.c.device_id).where(rounds.c.sweep_id.in_(running))
    queued_query = (
        select(rounds.c.device_id, devices.c.shares)
        .join(sweeps, sweeps.c.sweep_id == rounds.c.sweep_id)
        .join(devices, devices.c.device_id == rounds.c.device_id)
        .where(
            sweeps.c.state == SweepState.RUNNING.value,
            rounds.c.state == RoundState.QUEUED.value,
            _MAY_BE_GRANTED,
        )
        .distinct()
    )
    held_query = of_running.where(rounds.c.state == RoundState.LEASED.value).add_columns(
        rounds.c.round_id, rounds.c.fence
    )
    by_device: dict[str, set[tuple[str, int]]] = defaultdict(set)
    for device_id, round_id, fence in tx.execute(held_query):
        by_device[device_id].add((round_id, fence))
    busy = sharing.busy(tx)
    return Wishes(
        queued=frozenset(
            device_id
            for device_id, shares in tx.execute(queued_query)
            if not sharing.split(shares) & busy
        ),
        held={device_id: frozenset(pairs) for device_id, pairs in by_device.items()},
    )


def accept(tx: Connection, round_id: str, fence: int) -> None:
    """The device has reported an attempt of this grant."""
    tx.execute(
        update(rounds)
        .where(rounds.c.round_id == round_id, rounds.c.fence == fence)
        .values(accepted=True)
    )


def finish(tx: Connection, round_id: str, fence: int, state: RoundState, now_ns: int) -> bool:
    """Ends a round by the current fence."""
    row = _locked(tx, rounds.c.round_id == round_id).first()
    if row is None:
        raise NotFound(f"no round {round_id!r}")
    if row.fence != fence or row.state not in (RoundState.QUEUED.value, RoundState.LEASED.value):
        return False
    _set(tx, round_id, state, now_ns, "")
    return True


def release(
    tx: Connection,
    round_id: str,
    fence: int,
    max_grants: int,
    now_ns: int,
    trouble: str,
    most_uncounted: int,
) -> RoundState | None:
    """Ends a lease whose device no longer holds it."""
    _uncount(tx, round_id, fence, most_uncounted)
    held_now = rounds.c.state == RoundState.LEASED.value
    row = _locked(tx, rounds.c.round_id == round_id, rounds.c.fence == fence, held_now).first()
    return None if row is None else _take_back(tx, [row], max_grants, now_ns, trouble)[round_id]


def expire(
    tx: Connection,
    now_ns: int,
    max_grants: int,
    delivery_ns: int,
    trouble: str,
    spare: Collection[str] = (),
) -> list[str]:
    """Ends every lease that ran out, but of the devices to ``spare``; returns the rounds' ids."""
    over = rounds.c.lease_expires_ns <= now_ns - delivery_ns
    rows = _locked(tx, rounds.c.state == RoundState.LEASED.value, over).all()
    return sorted(
        _take_back(tx, [r for r in rows if r.device_id not in spare], max_grants, now_ns, trouble)
    )


def may_read(tx: Connection, device_id: str, digest: str) -> bool:
    """Whether a round leased to the device names the artifact."""
    named = (
        exists()
        .where(round_artifacts.c.digest == digest)
        .where(round_artifacts.c.round_id == rounds.c.round_id)
        .where(rounds.c.device_id == device_id, rounds.c.state == RoundState.LEASED.value)
    )
    return bool(tx.execute(select(named)).scalar())


def ever_leased(tx: Connection, device_id: str, digests: Sequence[str]) -> frozenset[str]:
    """Those of ``digests`` that a round granted to the device has named."""
    query = (
        select(round_artifacts.c.digest)
        .join(rounds, rounds.c.round_id == round_artifacts.c.round_id)
        .where(
            round_artifacts.c.digest.in_(digests),
            rounds.c.device_id == device_id,
            rounds.c.fence > 0,
        )
    )
    return frozenset(tx.execute(query).scalars())


def _holds_one(tx: Connection, device_id: str) -> bool:
    held_now = exists().where(
        rounds.c.device_id == device_id, rounds.c.state == RoundState.LEASED.value
    )
    return bool(tx.execute(select(held_now)).scalar())


def _grant(tx: Connection, row: Row[Any], box: LeaseBox, now_ns: int) -> Round:
    fence = row.fence + 1
    planned = from_bytes(row.body, Round)
    runs = tuple(
        replace(run, attempt_id=f"{row.round_id}.{fence}.{position}")
        for position, run in enumerate(planned.runs)
    )
    granted = replace(
        planned,
        fence=fence,
        lease_ns=box.lease_ns,
        fetch_ns=box.fetch_ns,
        start_ns=box.start_ns,
        runs=runs,
    )
    tx.execute(
        update(rounds)
        .where(rounds.c.round_id == row.round_id)
        .values(
            state=RoundState.LEASED.value,
            fence=fence,
            grants=row.grants + 1,
            accepted=False,
            lease_expires_ns=now_ns + granted.lease_ns,
            since_ns=now_ns,
            body=to_bytes(granted),
        )
    )
    _insert_attempts(tx, row.device_id, granted)
    # A round counts whole: what an earlier grant of it yielded no longer does.
    tx.execute(
        update(results)
        .where(results.c.round_id == row.round_id, results.c.fence < fence)
        .values(superseded=True)
    )
    return granted


def _uncount(tx: Connection, round_id: str, fence: int, most: int) -> None:
    """The grant of this fence does not count, where fewer than ``most`` of its round did not."""
    tx.execute(
        update(rounds)
        .where(
            rounds.c.round_id == round_id,
            rounds.c.fence == fence,
            rounds.c.state == RoundState.LEASED.value,
            rounds.c.fence - rounds.c.grants < most,
        )
        .values(grants=rounds.c.grants - 1)
    )


def _insert_attempts(tx: Connection, device_id: str, granted: Round) -> None:
    values = [
        {
            "attempt_id": run.attempt_id,
            "round_id": granted.round_id,
            "device_id": device_id,
            "fence": granted.fence,
            "cell_key": run.cell_key,
        }
        for run in granted.runs
    ]
    if values:
        tx.execute(insert(attempts), values)


def _take_back(
    tx: Connection, rows: Sequence[Row[Any]], max_grants: int, now_ns: int, trouble: str
) -> dict[str, RoundState]:
    ended: dict[str, RoundState] = {}
    for row in rows:
        if row.sweep_state == SweepState.CANCELLED.value:
            state = RoundState.CANCELLED
        elif row.grants >= max_grants:
            state = RoundState.FAILED
        else:
            state = RoundState.QUEUED
        _set(tx, row.round_id, state, now_ns, "" if state is RoundState.CANCELLED else trouble)
        ended[row.round_id] = state
    return ended


def _locked(tx: Connection, *conditions: ColumnElement[bool]) -> CursorResult[Any]:
    query = (
        select(
            rounds.c.round_id,
            rounds.c.sweep_id,
            rounds.c.device_id,
            rounds.c.state,
            rounds.c.fence,
            rounds.c.grants,
            sweeps.c.state.label("sweep_state"),
        )
        .join(sweeps, sweeps.c.sweep_id == rounds.c.sweep_id)
        .where(*conditions)
        .with_for_update(of=rounds)
    )
    return tx.execute(query)


def _set(tx: Connection, round_id: str, state: RoundState, now_ns: int, trouble: str) -> None:
    tx.execute(
        update(rounds)
        .where(rounds.c.round_id == round_id)
        .values(state=state.value, lease_expires_ns=None, since_ns=now_ns, trouble=trouble)
    )
