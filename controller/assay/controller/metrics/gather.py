"""Running sweeps as they stand, read again only where they have moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from assay.controller.records import ResultRecord, RoundRecord, SweepMarks
from assay.controller.store.base import Store

_MOST_ONE_BY_ONE = 50


@dataclass(frozen=True, slots=True)
class Gathered:
    """A sweep's own results and rounds. What has not changed since the reading before is the same
    object; a round's lease may have been prolonged since."""

    rounds: tuple[RoundRecord, ...]
    by_cell: Mapping[str, tuple[ResultRecord, ...]]

    @property
    def results(self) -> list[ResultRecord]:
        """All results, in the order of recording."""
        found = [record for records in self.by_cell.values() for record in records]
        return sorted(found, key=lambda r: r.recorded_ns)


_NOTHING = Gathered((), {})


class SweepReader:
    """Keeps what it read of every sweep until it is told to forget it. Not thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, tuple[SweepMarks, Gathered]] = {}

    def read(self, sweep_id: str) -> Gathered:
        """The sweep as it is now; the same object while nothing has moved."""
        marks = self._store.sweep_marks(sweep_id)
        before, known = self._known.get(sweep_id, (SweepMarks({}, {}), _NOTHING))
        if sweep_id in self._known and marks == before:
            return known
        read = Gathered(
            self._rounds(sweep_id, marks, before, known),
            self._results(sweep_id, marks, before, known),
        )
        # What came in between marks and reading is read once more next time.
        self._known[sweep_id] = (marks, read)
        return read

    def forget(self, sweep_id: str) -> None:
        """Lets go of a sweep; it may be read again."""
        self._known.pop(sweep_id, None)

    def _results(
        self, sweep_id: str, marks: SweepMarks, before: SweepMarks, known: Gathered
    ) -> Mapping[str, tuple[ResultRecord, ...]]:
        moved = [key for key, mark in marks.cells.items() if before.cells.get(key) != mark]
        found: dict[str, list[ResultRecord]] = {key: [] for key in moved}
        if moved:
            every = len(moved) == len(marks.cells)
            for record in self._store.results(sweep_id=sweep_id, cell_keys=() if every else moved):
                found.setdefault(record.result.run.cell_key, []).append(record)
        kept = {key: records for key, records in known.by_cell.items() if key in marks.cells}
        return {**kept, **{key: tuple(records) for key, records in found.items()}}

    def _rounds(
        self, sweep_id: str, marks: SweepMarks, before: SweepMarks, known: Gathered
    ) -> tuple[RoundRecord, ...]:
        moved = {key for key, mark in marks.rounds.items() if before.rounds.get(key) != mark}
        if not moved:
            return known.rounds
        if len(moved) > _MOST_ONE_BY_ONE or not moved <= before.rounds.keys():
            return tuple(self._store.rounds(sweep_id))
        return tuple(
            self._store.round(r.round_id) if r.round_id in moved else r for r in known.rounds
        )
