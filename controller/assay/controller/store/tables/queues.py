"""Queues that do not move."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, exists, func, select, update

from assay.controller.records import IdleQueue, RoundState, SweepState
from assay.controller.store.schema import devices, rounds, sweeps
from assay.controller.store.tables import sharing

_holder = rounds.alias("holder")
_HOLDS_NOTHING = ~exists().where(
    _holder.c.device_id == rounds.c.device_id, _holder.c.state == RoundState.LEASED.value
)
_IDLE = (
    select(rounds.c.sweep_id, rounds.c.device_id, func.min(rounds.c.since_ns), devices.c.shares)
    .join(sweeps, sweeps.c.sweep_id == rounds.c.sweep_id)
    .join(devices, devices.c.device_id == rounds.c.device_id)
    .where(
        rounds.c.state == RoundState.QUEUED.value,
        sweeps.c.state == SweepState.RUNNING.value,
        _HOLDS_NOTHING,
    )
    .group_by(rounds.c.sweep_id, rounds.c.device_id, devices.c.shares)
)


def idle(tx: Connection) -> list[IdleQueue]:
    """What waits for devices that hold no lease, and for nothing that another holds."""
    busy = sharing.busy(tx)
    found = tx.execute(_IDLE)
    return [IdleQueue(*key) for *key, shares in found if not sharing.split(shares) & busy]


def last_work_ns(tx: Connection, device_id: str, never_taken: str) -> int:
    """When the device, or one that shares something with it, last took a round or ended one; 0:
    never."""
    query = select(func.max(rounds.c.since_ns)).where(
        rounds.c.device_id.in_(sharing.sharers(tx, device_id)),
        rounds.c.state != RoundState.QUEUED.value,
        rounds.c.fence > 0,
        ~rounds.c.trouble.startswith(never_taken, autoescape=True),
    )
    return tx.execute(query).scalar() or 0


def fail(tx: Connection, queue: IdleQueue, now_ns: int, trouble: str) -> list[str]:
    """FAILED for every round of this queue that nobody took meanwhile."""
    waiting: tuple[ColumnElement[bool], ...] = (
        rounds.c.sweep_id == queue.sweep_id,
        rounds.c.device_id == queue.device_id,
        rounds.c.state == RoundState.QUEUED.value,
    )
    query = select(rounds.c.round_id).where(*waiting, _HOLDS_NOTHING).with_for_update(of=rounds)
    round_ids = sorted(tx.execute(query).scalars())
    if sharing.waits_for_another(tx, queue.device_id):
        return []
    if round_ids:
        tx.execute(
            update(rounds)
            .where(*waiting)
            .values(state=RoundState.FAILED.value, since_ns=now_ns, trouble=trouble)
        )
    return round_ids
