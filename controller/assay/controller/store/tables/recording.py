"""Recording results: once each, however often and in whatever order they are sent.

A batch costs two look-ups and two inserts, however many results it holds.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    Connection,
    Integer,
    Row,
    String,
    bindparam,
    func,
    insert,
    select,
    update,
)

from assay.controller.records import Recorded, RecordOutcome, RoundState
from assay.controller.store.schema import attempts, conflicts, results, rounds
from assay.core.convert import from_bytes
from assay.core.errors import BadMessage
from assay.core.model import Result

Reported = tuple[str, int, str, bytes]
"""(attempt_id, seq, sha256 of the body in hex, body)."""

_KEYS_PER_QUERY = 5_000
_IDS = bindparam("ids", expanding=True, type_=String)
_ATTEMPTS = (
    select(
        attempts.c.attempt_id,
        attempts.c.round_id,
        attempts.c.device_id,
        attempts.c.fence,
        attempts.c.cell_key,
        rounds.c.sweep_id,
        rounds.c.fence.label("current_fence"),
    )
    .join(rounds, rounds.c.round_id == attempts.c.round_id)
    .where(attempts.c.attempt_id.in_(_IDS))
    .with_for_update(of=attempts)
)
_KNOWN = select(results.c.attempt_id, results.c.seq, results.c.sha256).where(
    results.c.attempt_id.in_(_IDS)
)
_CONFLICTS = select(conflicts.c.attempt_id, conflicts.c.seq, conflicts.c.sha256).where(
    conflicts.c.attempt_id.in_(_IDS)
)
_ROUND_ID = bindparam("round_id", type_=String)
_FENCE = bindparam("fence", type_=Integer)
_ROUND = select(rounds.c.sweep_id, rounds.c.fence, rounds.c.state).where(
    rounds.c.round_id == _ROUND_ID
)
_WANTED = select(func.count()).where(attempts.c.round_id == _ROUND_ID, attempts.c.fence == _FENCE)
_THERE = select(func.count(results.c.attempt_id.distinct())).where(
    results.c.round_id == _ROUND_ID, results.c.fence == _FENCE
)


@dataclass(slots=True)
class _Batch:
    """What the batch is decided by, and what it will change."""

    attempts: dict[str, Row[Any]]
    known: dict[tuple[str, int], str]
    disputed: set[tuple[str, int, str]]
    now_ns: int
    new_results: list[dict[str, Any]] = field(default_factory=list)
    new_conflicts: list[dict[str, Any]] = field(default_factory=list)
    rounds: set[str] = field(default_factory=set)


def record_all(
    tx: Connection, batches: Sequence[tuple[str, Sequence[Reported]]], now_ns: int
) -> list[list[Recorded]]:
    """See :meth:`Store.record_all`."""
    ids = sorted({entry[0] for _, entries in batches for entry in entries})
    batch = _Batch(
        attempts={row.attempt_id: row for row in _look_up(tx, _ATTEMPTS, ids)},
        known={(row.attempt_id, row.seq): row.sha256 for row in _look_up(tx, _KNOWN, ids)},
        disputed={(r.attempt_id, r.seq, r.sha256) for r in _look_up(tx, _CONFLICTS, ids)},
        now_ns=now_ns,
    )
    outcomes = [
        [_record(batch, device_id, entry) for entry in entries] for device_id, entries in batches
    ]
    if batch.new_results:
        tx.execute(insert(results), batch.new_results)
    if batch.new_conflicts:
        tx.execute(insert(conflicts), batch.new_conflicts)
    _note_acceptance(tx, batch.rounds)
    _close_whole(tx, batch.rounds)
    return outcomes


def _look_up(tx: Connection, query: Any, ids: Sequence[str]) -> Iterator[Row[Any]]:
    for start in range(0, len(ids), _KEYS_PER_QUERY):
        yield from tx.execute(query, {"ids": ids[start : start + _KEYS_PER_QUERY]})


def _record(batch: _Batch, device_id: str, entry: Reported) -> Recorded:
    attempt_id, seq, sha256, body = entry
    if hashlib.sha256(body).hexdigest() != sha256:
        return _rejected("the body does not have the hash it came with")
    attempt = batch.attempts.get(attempt_id)
    if attempt is None or attempt.device_id != device_id:
        return _rejected("this attempt was never leased to this device")
    known = batch.known.get((attempt_id, seq))
    if known is not None:
        return _seen_before(batch, device_id, entry, known)
    try:
        value = from_bytes(body, Result)
    except BadMessage as error:
        return _rejected(str(error))
    if (value.attempt_id, value.seq) != (attempt_id, seq):
        return _rejected("the body belongs to another attempt or sequence number")
    if value.latency is not None and not 0 < value.latency.p50_ns < math.inf:
        return _rejected(f"a median of {value.latency.p50_ns} ns is no time that a run can take")
    superseded = attempt.fence != attempt.current_fence
    batch.known[attempt_id, seq] = sha256
    batch.new_results.append(_values(batch, attempt, entry, value, superseded=superseded))
    if superseded:
        return Recorded(RecordOutcome.STORED_SUPERSEDED, "the round was granted anew since")
    batch.rounds.add(attempt.round_id)
    return Recorded(RecordOutcome.STORED)


def _rejected(why: str) -> Recorded:
    return Recorded(RecordOutcome.REJECTED, why)


def _seen_before(batch: _Batch, device_id: str, entry: Reported, known_sha256: str) -> Recorded:
    attempt_id, seq, sha256, _ = entry
    if sha256 == known_sha256:
        return Recorded(RecordOutcome.ALREADY_STORED)
    if (attempt_id, seq, sha256) not in batch.disputed:
        batch.disputed.add((attempt_id, seq, sha256))
        batch.new_conflicts.append(
            {
                "attempt_id": attempt_id,
                "seq": seq,
                "sha256": sha256,
                "device_id": device_id,
                "seen_ns": batch.now_ns,
            }
        )
    return Recorded(
        RecordOutcome.CONFLICT, f"a result with sha256 {known_sha256} is stored under this key"
    )


def _values(
    batch: _Batch, attempt: Row[Any], entry: Reported, value: Result, *, superseded: bool
) -> dict[str, Any]:
    attempt_id, seq, sha256, body = entry
    return {
        "attempt_id": attempt_id,
        "seq": seq,
        "device_id": attempt.device_id,
        "round_id": attempt.round_id,
        "sweep_id": attempt.sweep_id,
        "cell_key": attempt.cell_key,
        "fence": attempt.fence,
        "superseded": superseded,
        "verdict": value.verdict.kind.value,
        "failure_code": None if value.failure is None else value.failure.code,
        "p50_ns": None if value.latency is None else value.latency.p50_ns,
        "trace_digest": None if value.trace is None else value.trace.digest,
        "sha256": sha256,
        "recorded_ns": batch.now_ns,
        "body": body,
    }


def _note_acceptance(tx: Connection, round_ids: Iterable[str]) -> None:
    """A result proves that the grant arrived, whatever the device's Syncs have said so far: should
    it lose its disk now, the round must come back under a new fence, not under these keys."""
    tx.execute(
        update(rounds)
        .where(rounds.c.round_id.in_(sorted(round_ids)), rounds.c.accepted.is_(False))
        .values(accepted=True)
    )


def _close_whole(tx: Connection, round_ids: Iterable[str]) -> None:
    """DONE for every round all of whose attempts of the current grant have a result."""
    for round_id in sorted(round_ids):
        row = tx.execute(_ROUND, {"round_id": round_id}).one()
        if row.state not in (RoundState.QUEUED.value, RoundState.LEASED.value):
            continue
        current = {"round_id": round_id, "fence": row.fence}
        there = tx.execute(_THERE, current).scalar_one()
        if there < tx.execute(_WANTED, current).scalar_one():
            continue
        tx.execute(
            update(rounds)
            .where(rounds.c.round_id == round_id)
            .values(state=RoundState.DONE.value, lease_expires_ns=None)
        )
