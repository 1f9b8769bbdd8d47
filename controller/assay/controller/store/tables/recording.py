"""Recording results: once each, however often and in whatever order they are sent.

A batch costs a few statements, however many results it holds; they are run as they are, since
SQLAlchemy's care for every parameter takes longer than SQLite.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, String, bindparam, insert, select

from assay.controller.records import Recorded, RecordOutcome, RoundState
from assay.controller.store.arrival import Arrived, Index
from assay.controller.store.schema import conflicts

# What a device may make us keep of one attempt; an honest one sends a few kB, a few times.
_BYTES_PER_ATTEMPT = 16 << 20
_RESULTS_PER_ATTEMPT = 1_000
_CONFLICTS_PER_ATTEMPT = 16
_ROWS_PER_STATEMENT = 500
_LOOK_UP = """
SELECT a.attempt_id, a.device_id, a.round_id, r.sweep_id, a.cell_key, a.fence, r.fence,
       s.seq, s.sha256, LENGTH(s.body)
FROM attempts AS a
JOIN rounds AS r ON r.round_id = a.round_id
LEFT JOIN results AS s ON s.attempt_id = a.attempt_id
WHERE a.attempt_id IN ({})"""
_COLUMNS = (
    *("attempt_id", "seq", "device_id", "round_id", "sweep_id", "cell_key", "fence", "superseded"),
    *("verdict", "failure_code", "p50_ns", "trace_digest", "sha256", "recorded_ns", "body"),
)
_INSERT = f"INSERT INTO results ({', '.join(_COLUMNS)}) VALUES "

_CONFLICTS = select(conflicts.c.seq, conflicts.c.sha256).where(
    conflicts.c.attempt_id == bindparam("attempt_id", type_=String)
)
# A result proves that the grant arrived, whatever the device's Syncs have said so far: should it
# lose its disk now, the round must come back under a new fence, not under these keys.
_ACCEPT = "UPDATE rounds SET accepted = {true} WHERE NOT accepted AND round_id IN ({rounds})"
_CLOSE = f"""
UPDATE rounds SET state = '{RoundState.DONE.value}', lease_expires_ns = NULL, since_ns = {{now}},
       trouble = ''
WHERE state IN ('{RoundState.QUEUED.value}', '{RoundState.LEASED.value}')
  AND round_id IN ({{rounds}})
  AND NOT EXISTS (
    SELECT 1 FROM attempts AS a
    WHERE a.round_id = rounds.round_id AND a.fence = rounds.fence
      AND NOT EXISTS (SELECT 1 FROM results AS s WHERE s.attempt_id = a.attempt_id))"""
_STORED = Recorded(RecordOutcome.STORED)


class _Attempt(NamedTuple):
    """A grant of an attempt, in the order of the rows' columns."""

    device_id: str
    round_id: str
    sweep_id: str
    cell_key: str
    fence: int


@dataclass(slots=True)
class _Batch:
    """What the batch is decided by, and what it will change."""

    now_ns: int
    attempts: dict[str, _Attempt] = field(default_factory=dict)
    fences: dict[str, int] = field(default_factory=dict)
    known: dict[tuple[str, int], str] = field(default_factory=dict)
    held_bytes: dict[str, int] = field(default_factory=dict)
    held_results: Counter[str] = field(default_factory=Counter)
    new_results: list[tuple[Any, ...]] = field(default_factory=list)
    disputed: dict[tuple[str, int, str], str] = field(default_factory=dict)
    rounds: set[str] = field(default_factory=set)


def record_all(
    tx: Connection, batches: Sequence[tuple[str, Sequence[Arrived]]], now_ns: int
) -> list[list[Recorded]]:
    """See :meth:`Store.record_all`."""
    batch = _Batch(now_ns)
    _look_up(tx, batch, sorted({one.attempt_id for _, results in batches for one in results}))
    outcomes = [
        [_record(batch, device_id, one) for one in results] for device_id, results in batches
    ]
    _insert(tx, batch.new_results)
    _note_conflicts(tx, batch)
    _note_acceptance(tx, sorted(batch.rounds))
    _close_whole(tx, sorted(batch.rounds), now_ns)
    return outcomes


def _look_up(tx: Connection, batch: _Batch, ids: Sequence[str]) -> None:
    for some in _portions(ids):
        query = _LOOK_UP.format(_places(tx, len(some)))
        if tx.dialect.name != "sqlite":
            query += " FOR UPDATE OF a"
        for attempt_id, *grant, current_fence, seq, sha256, size in tx.exec_driver_sql(
            query, tuple(some)
        ):
            attempt = batch.attempts[attempt_id] = _Attempt(*grant)
            batch.fences[attempt.round_id] = current_fence
            if seq is not None:
                batch.known[attempt_id, seq] = sha256
                batch.held_bytes[attempt_id] = batch.held_bytes.get(attempt_id, 0) + size
                batch.held_results[attempt_id] += 1


def _record(batch: _Batch, device_id: str, one: Arrived) -> Recorded:
    attempt = batch.attempts.get(one.attempt_id)
    if not one.intact:
        return Recorded(RecordOutcome.REJECTED, one.refusal)
    if attempt is None or attempt.device_id != device_id:
        return Recorded(RecordOutcome.REJECTED, "this attempt was never leased to this device")
    known = batch.known.get((one.attempt_id, one.seq))
    if known is not None:
        return _seen_before(batch, device_id, one, known)
    if one.index is None:
        return Recorded(RecordOutcome.REJECTED, one.refusal)
    held_bytes = batch.held_bytes.get(one.attempt_id, 0) + len(one.body)
    if held_bytes > _BYTES_PER_ATTEMPT:
        return Recorded(
            RecordOutcome.REJECTED,
            f"this attempt has {held_bytes - len(one.body)} bytes of results already; at most "
            f"{_BYTES_PER_ATTEMPT} are kept",
        )
    if batch.held_results[one.attempt_id] >= _RESULTS_PER_ATTEMPT:
        return Recorded(
            RecordOutcome.REJECTED, f"this attempt has {_RESULTS_PER_ATTEMPT} results already"
        )
    batch.held_bytes[one.attempt_id] = held_bytes
    batch.held_results[one.attempt_id] += 1
    superseded = attempt.fence != batch.fences[attempt.round_id]
    batch.known[one.attempt_id, one.seq] = one.sha256
    batch.new_results.append(_row(batch, attempt, one, one.index, superseded=superseded))
    if superseded:
        return Recorded(RecordOutcome.STORED_SUPERSEDED, "the round was granted anew since")
    batch.rounds.add(attempt.round_id)
    return _STORED


def _seen_before(batch: _Batch, device_id: str, one: Arrived, known_sha256: str) -> Recorded:
    if one.sha256 == known_sha256:
        return Recorded(RecordOutcome.ALREADY_STORED)
    batch.disputed[one.attempt_id, one.seq, one.sha256] = device_id
    return Recorded(
        RecordOutcome.CONFLICT, f"a result with sha256 {known_sha256} is stored under this key"
    )


def _row(
    batch: _Batch, attempt: _Attempt, one: Arrived, index: Index, *, superseded: bool
) -> tuple[Any, ...]:
    """In the order of :data:`_COLUMNS`."""
    return (
        *(one.attempt_id, one.seq, *attempt, superseded),
        *(index.verdict, index.failure_code, index.p50_ns, index.trace_digest),
        *(one.sha256, batch.now_ns, one.body),
    )


def _insert(tx: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    # One statement for many rows: the driver lets other threads run, and waits for them, with
    # every statement.
    for some in _portions(rows):
        row = f"({_places(tx, len(_COLUMNS))})"
        values = tuple(value for row in some for value in row)
        tx.exec_driver_sql(_INSERT + ", ".join([row] * len(some)), values)


def _portions(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), _ROWS_PER_STATEMENT):
        yield items[start : start + _ROWS_PER_STATEMENT]


def _places(tx: Connection, count: int) -> str:
    return ", ".join([_place(tx)] * count)


def _place(tx: Connection) -> str:
    return "?" if tx.dialect.paramstyle == "qmark" else "%s"


def _note_conflicts(tx: Connection, batch: _Batch) -> None:
    """Both hashes of every dispute that is not noted yet."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for (attempt_id, seq, sha256), device_id in batch.disputed.items():
        new = {"seq": seq, "sha256": sha256, "device_id": device_id, "seen_ns": batch.now_ns}
        found[attempt_id].append({"attempt_id": attempt_id, **new})
    for attempt_id, disputes in found.items():
        noted = {tuple(row) for row in tx.execute(_CONFLICTS, {"attempt_id": attempt_id})}
        new_ones = [each for each in disputes if (each["seq"], each["sha256"]) not in noted]
        new_ones = new_ones[: max(0, _CONFLICTS_PER_ATTEMPT - len(noted))]
        if new_ones:
            tx.execute(insert(conflicts), new_ones)


def _note_acceptance(tx: Connection, round_ids: Sequence[str]) -> None:
    for some in _portions(round_ids):
        query = _ACCEPT.format(true=_place(tx), rounds=_places(tx, len(some)))
        tx.exec_driver_sql(query, (True, *some))


def _close_whole(tx: Connection, round_ids: Sequence[str], now_ns: int) -> None:
    """DONE for every round all of whose attempts of the current grant have a result."""
    for some in _portions(round_ids):
        query = _CLOSE.format(now=_place(tx), rounds=_places(tx, len(some)))
        tx.exec_driver_sql(query, (now_ns, *some))
