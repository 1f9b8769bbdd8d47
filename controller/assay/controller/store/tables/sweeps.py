"""Sweeps, their cells and their rounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, exists, insert, select, update

from assay.controller.records import CellRecord, RoundRecord, RoundState, SweepRecord, SweepState
from assay.controller.store.schema import cells, round_artifacts, rounds, sweeps
from assay.core.convert import from_bytes, to_bytes
from assay.core.errors import AlreadyExists, NotFound
from assay.core.model import Round, RunSpec

ENDED = tuple(s.value for s in (RoundState.DONE, RoundState.FAILED, RoundState.CANCELLED))


@dataclass(frozen=True, slots=True)
class Rows:
    """Cells and rounds as rows of their tables, by sweep. Making them takes ten times as long as
    writing them: nobody else could write meanwhile, so they are made before."""

    cells: Sequence[dict[str, Any]]
    rounds: Mapping[str, Sequence[dict[str, Any]]]
    named: Mapping[str, Sequence[dict[str, Any]]]


def rows_of(
    names: Mapping[str, str], cells_: Sequence[CellRecord], rounds_: Sequence[RoundRecord]
) -> Rows:
    """Those of sweeps with these names by their id."""
    by_sweep: dict[str, list[RoundRecord]] = {}
    for round_ in rounds_:
        by_sweep.setdefault(round_.sweep_id, []).append(round_)
    return Rows(
        cells=[_cell_values(position, cell) for position, cell in enumerate(cells_)],
        rounds={
            sweep_id: [_round_values(names[sweep_id], round_) for round_ in its]
            for sweep_id, its in by_sweep.items()
        },
        named={
            sweep_id: [
                {"round_id": round_.round_id, "digest": digest}
                for round_ in its
                for digest in sorted(digests_of(round_.runs))
            ]
            for sweep_id, its in by_sweep.items()
        },
    )


def add_sweep(tx: Connection, sweep: SweepRecord, rows: Rows) -> None:
    """A sweep with everything it wants measured."""
    if tx.execute(select(sweeps.c.sweep_id).where(sweeps.c.name == sweep.name)).first():
        raise AlreadyExists(f"a sweep named {sweep.name!r} is there; choose another name")
    tx.execute(
        insert(sweeps).values(
            sweep_id=sweep.sweep_id,
            name=sweep.name,
            spec_json=sweep.spec_json,
            seed=str(sweep.seed),
            rounds=sweep.rounds,
            state=sweep.state.value,
            created_ns=sweep.created_ns,
            priority=sweep.priority,
        )
    )
    if rows.cells:
        tx.execute(insert(cells), rows.cells)
    for sweep_id in rows.rounds:
        _insert_rounds(tx, sweep_id, rows)


def add_rounds(tx: Connection, rows: Rows, while_running: bool) -> None:
    """More rounds; their sweeps run again. See :meth:`Store.add_rounds`."""
    for sweep_id in rows.rounds:
        found = sweep(tx, sweep_id)
        if while_running and found.state is not SweepState.RUNNING:
            continue
        _insert_rounds(tx, sweep_id, rows)
        _set_state(tx, sweep_id, SweepState.RUNNING)


def all_sweeps(tx: Connection) -> list[SweepRecord]:
    """Oldest first."""
    rows = tx.execute(select(sweeps).order_by(sweeps.c.created_ns, sweeps.c.sweep_id))
    return [_sweep(row) for row in rows]


def sweep(tx: Connection, name_or_id: str) -> SweepRecord:
    """One sweep; the id wins over a name that looks like one."""
    for column in (sweeps.c.sweep_id, sweeps.c.name):
        row = tx.execute(select(sweeps).where(column == name_or_id)).first()
        if row is not None:
            return _sweep(row)
    raise NotFound(f"no sweep {name_or_id!r}; `assay sweep list` names them")


def set_priority(tx: Connection, sweep_id: str, priority: int) -> None:
    """Its queued rounds move; a leased one stays."""
    same = sweeps.c.sweep_id == sweep_id
    if tx.execute(update(sweeps).where(same).values(priority=priority)).rowcount == 0:
        raise NotFound(f"no sweep {sweep_id!r}")


def set_state(tx: Connection, sweep_id: str, state: SweepState) -> None:
    """See :meth:`Store.set_sweep_state`."""
    before = sweep(tx, sweep_id).state
    if state is SweepState.DONE and before is not SweepState.RUNNING:
        return
    _set_state(tx, sweep_id, state)
    if state is SweepState.CANCELLED:
        tx.execute(
            update(rounds)
            .where(rounds.c.sweep_id == sweep_id, rounds.c.state == RoundState.QUEUED.value)
            .values(state=RoundState.CANCELLED.value)
        )


def its_cells(tx: Connection, sweep_id: str) -> list[CellRecord]:
    """In the order they were added."""
    rows = tx.execute(select(cells).where(cells.c.sweep_id == sweep_id).order_by(cells.c.position))
    return [_cell(row) for row in rows]


def its_rounds(
    tx: Connection, sweep_id: str, states: Iterable[RoundState] = ()
) -> list[RoundRecord]:
    """By group and index."""
    query = select(rounds).where(rounds.c.sweep_id == sweep_id)
    wanted = [state.value for state in states]
    if wanted:
        query = query.where(rounds.c.state.in_(wanted))
    ordered = query.order_by(rounds.c.grouping, rounds.c.position, rounds.c.round_id)
    return [round_record(row) for row in tx.execute(ordered)]


def is_open(tx: Connection, sweep_id: str) -> bool:
    """Whether a round of it is queued or leased."""
    open_ = exists().where(
        rounds.c.sweep_id == sweep_id,
        rounds.c.state.in_([RoundState.QUEUED.value, RoundState.LEASED.value]),
    )
    return bool(tx.execute(select(open_)).scalar())


def one_round(tx: Connection, round_id: str) -> RoundRecord:
    """One round."""
    row = tx.execute(select(rounds).where(rounds.c.round_id == round_id)).first()
    if row is None:
        raise NotFound(f"no round {round_id!r}")
    return round_record(row)


def round_record(row: Row[Any]) -> RoundRecord:
    """The record in a row of ``rounds``."""
    return RoundRecord(
        round_id=row.round_id,
        sweep_id=row.sweep_id,
        device_id=row.device_id,
        group=row.grouping,
        index=row.position,
        state=RoundState(row.state),
        fence=row.fence,
        runs=from_bytes(row.body, Round).runs,
        lease_expires_ns=row.lease_expires_ns,
        grants=row.grants,
        since_ns=row.since_ns,
        trouble=row.trouble,
    )


def digests_of(runs: Iterable[RunSpec]) -> set[str]:
    """Every artifact these runs name."""
    found = set()
    for run in runs:
        found |= {run.artifact.digest, run.inputs.artifact.digest}
        if run.golden is not None:
            found.add(run.golden.artifact.digest)
    return found


def _set_state(tx: Connection, sweep_id: str, state: SweepState) -> None:
    tx.execute(update(sweeps).where(sweeps.c.sweep_id == sweep_id).values(state=state.value))


def _cell_values(position: int, cell: CellRecord) -> dict[str, Any]:
    return {
        "sweep_id": cell.sweep_id,
        "cell_key": cell.cell_key,
        "position": position,
        "device_id": cell.device_id,
        "grouping": cell.group,
        "run": to_bytes(cell.run),
        "baseline": cell.baseline,
    }


def _insert_rounds(tx: Connection, sweep_id: str, rows: Rows) -> None:
    tx.execute(insert(rounds), rows.rounds[sweep_id])
    if rows.named[sweep_id]:
        tx.execute(insert(round_artifacts), rows.named[sweep_id])


def _round_values(sweep_name: str, record: RoundRecord) -> dict[str, Any]:
    body = Round(
        round_id=record.round_id,
        sweep_id=record.sweep_id,
        sweep_name=sweep_name,
        index=record.index,
        fence=record.fence,
        lease_ns=0,
        runs=tuple(record.runs),
    )
    return {
        "round_id": record.round_id,
        "sweep_id": record.sweep_id,
        "device_id": record.device_id,
        "grouping": record.group,
        "position": record.index,
        "state": record.state.value,
        "fence": record.fence,
        "grants": record.grants,
        "accepted": False,
        "lease_expires_ns": record.lease_expires_ns,
        "since_ns": record.since_ns,
        "trouble": record.trouble,
        "body": to_bytes(body),
    }


def _sweep(row: Row[Any]) -> SweepRecord:
    return SweepRecord(
        sweep_id=row.sweep_id,
        name=row.name,
        spec_json=row.spec_json,
        seed=int(row.seed),
        rounds=row.rounds,
        state=SweepState(row.state),
        created_ns=row.created_ns,
        priority=row.priority,
    )


def _cell(row: Row[Any]) -> CellRecord:
    return CellRecord(
        cell_key=row.cell_key,
        sweep_id=row.sweep_id,
        device_id=row.device_id,
        group=row.grouping,
        run=from_bytes(row.run, RunSpec),
        baseline=row.baseline,
    )
