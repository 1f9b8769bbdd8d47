"""How far a sweep is: pure counting over what the store holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assay.controller.planning.plan import estimate_ns, holds
from assay.controller.records import (
    CellRecord,
    ResultRecord,
    RoundRecord,
    RoundState,
    SweepRecord,
    SweepState,
)


@dataclass(frozen=True, slots=True)
class Progress:
    """A sweep at one moment; ``left_ns`` is estimated from the pace so far."""

    state: SweepState
    runs_done: int
    runs_total: int
    rounds: Mapping[RoundState, int]
    verdicts: Mapping[str, int]
    left_ns: int
    latest: tuple[ResultRecord, ...]

    @property
    def ended(self) -> bool:
        """Whether nothing more will come unless it is resumed."""
        return self.state is not SweepState.RUNNING


def measure_progress(
    sweep: SweepRecord, rounds: Sequence[RoundRecord], results: Sequence[ResultRecord]
) -> Progress:
    """Counts runs, rounds and verdicts; the latest result comes last."""
    open_rounds = [r for r in rounds if r.state in (RoundState.QUEUED, RoundState.LEASED)]
    recorded = {r.attempt_id for r in results}
    waiting = sum(run.attempt_id not in recorded for r in open_rounds for run in r.runs)
    return Progress(
        state=sweep.state,
        runs_done=len(recorded),
        runs_total=len(recorded) + waiting,
        rounds=Counter(r.state for r in rounds),
        verdicts=Counter(r.result.verdict.kind.value for r in results),
        left_ns=_left_ns(open_rounds, waiting, results),
        latest=tuple(results[-3:]),
    )


def lacking(
    sweep: SweepRecord, cells: Sequence[CellRecord], results: Sequence[ResultRecord]
) -> list[CellRecord]:
    """The measured cells with fewer results that hold than the sweep has rounds."""
    valid = Counter(r.result.run.cell_key for r in results if holds(r.result))
    return [c for c in cells if not c.run.canary and valid[c.cell_key] < sweep.rounds]


def _left_ns(
    open_rounds: Sequence[RoundRecord], waiting: int, results: Sequence[ResultRecord]
) -> int:
    if not waiting:
        return 0
    planned = sum(len(r.runs) for r in open_rounds)
    predicted = estimate_ns(open_rounds) * waiting // max(planned, 1)
    if not results:
        return predicted
    devices = len({r.device_id for r in open_rounds}) or 1
    mean_ns = sum(r.result.provenance.duration_ns for r in results) // len(results)
    return mean_ns * waiting // devices
