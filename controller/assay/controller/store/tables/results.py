"""Results as they are read back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from assay.controller.records import ConflictRecord, ResultRecord, RoundState, SweepMarks
from assay.controller.store.schema import conflicts, results, rounds
from assay.core.convert import from_bytes
from assay.core.errors import NotFound
from assay.core.model import Result

_KEYS_PER_QUERY = 10_000


def all_results(
    tx: Connection, sweep_id: str | None, cell_keys: Iterable[str], superseded: bool
) -> list[ResultRecord]:
    """In the order of recording."""
    query = select(results)
    if sweep_id is not None:
        query = query.where(results.c.sweep_id == sweep_id)
    if not superseded:
        query = query.where(results.c.superseded.is_(False))
    keys = sorted(set(cell_keys))
    rows = _rows(tx, query, keys)
    return [_result(row) for row in sorted(rows, key=lambda row: row.entry)]


def page(tx: Connection, sweep_id: str, after: int, limit: int) -> tuple[list[ResultRecord], int]:
    """See :meth:`Store.result_page`."""
    query = select(results).where(
        results.c.sweep_id == sweep_id, results.c.superseded.is_(False), results.c.entry > after
    )
    rows = tx.execute(query.order_by(results.c.entry).limit(limit)).all()
    return [_result(row) for row in rows], rows[-1].entry if rows else after


def result(tx: Connection, attempt_id: str) -> ResultRecord:
    """The last one of an attempt."""
    query = select(results).where(results.c.attempt_id == attempt_id)
    row = tx.execute(query.order_by(results.c.seq.desc()).limit(1)).first()
    if row is None:
        raise NotFound(f"no result of attempt {attempt_id!r}; `assay result list` names them")
    return _result(row)


def attempts(tx: Connection, beginning: str, limit: int) -> list[str]:
    """Those with a result whose id begins so."""
    column = results.c.attempt_id
    query = select(column).distinct().where(column >= beginning)
    # Nothing that begins so comes after it with the last of all characters.
    query = query.where(column <= beginning + chr(0x10FFFF)).order_by(column).limit(limit)
    return list(tx.execute(query).scalars())


def marks(tx: Connection, sweep_id: str) -> SweepMarks:
    """What has moved in a sweep."""
    cells = (
        select(results.c.cell_key, func.count(), func.max(results.c.entry))
        .where(results.c.sweep_id == sweep_id, results.c.superseded.is_(False))
        .group_by(results.c.cell_key)
    )
    states = select(rounds.c.round_id, rounds.c.state, rounds.c.fence)
    return SweepMarks(
        cells={key: (count, newest) for key, count, newest in tx.execute(cells)},
        rounds={
            round_id: (RoundState(state), fence)
            for round_id, state, fence in tx.execute(states.where(rounds.c.sweep_id == sweep_id))
        },
    )


def all_conflicts(tx: Connection) -> list[ConflictRecord]:
    """Oldest first."""
    query = (
        select(conflicts, results.c.sha256.label("stored_sha256"))
        .join(
            results,
            (results.c.attempt_id == conflicts.c.attempt_id) & (results.c.seq == conflicts.c.seq),
        )
        .order_by(conflicts.c.seen_ns, conflicts.c.attempt_id, conflicts.c.seq)
    )
    return [
        ConflictRecord(
            attempt_id=row.attempt_id,
            seq=row.seq,
            device_id=row.device_id,
            stored_sha256=row.stored_sha256,
            other_sha256=row.sha256,
            seen_ns=row.seen_ns,
        )
        for row in tx.execute(query)
    ]


def _rows(tx: Connection, query: Select[Any], keys: Sequence[str]) -> list[Row[Any]]:
    if not keys:
        return list(tx.execute(query))
    found: list[Row[Any]] = []
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        some = keys[start : start + _KEYS_PER_QUERY]
        found.extend(tx.execute(query.where(results.c.cell_key.in_(some))))
    return found


def _result(row: Row[Any]) -> ResultRecord:
    return ResultRecord(
        attempt_id=row.attempt_id,
        seq=row.seq,
        device_id=row.device_id,
        sha256=row.sha256,
        superseded=row.superseded,
        recorded_ns=row.recorded_ns,
        result=from_bytes(row.body, Result),
    )
