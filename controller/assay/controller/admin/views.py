"""What administration is told and tells about sweeps, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from assay.controller.records import ResultRecord, RoundState, SweepRecord, SweepState


@dataclass(frozen=True, slots=True)
class SweepFile:
    """A sweep file's ``text``; ``source`` is what messages call it. The recipes that it names lie
    in ``folder``; a file that came from elsewhere has none and may name no recipes."""

    source: str
    text: str
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class PlannedCell:
    """What would be measured, canaries too; ``device`` is a name, ``batch`` the samples a query
    holds."""

    device: str
    variant: str
    runtime: str
    threads: int
    scenario: str
    batch: int
    cell_key: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What a sweep file asks for and cannot be, and why."""

    device: str
    variant: str
    runtime: str
    reason: str


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """What a sweep would do. ``measured`` cells (canaries left out) get ``rounds_each`` rounds;
    ``rounds`` and ``runs`` are all of them, ``estimate_ns`` is the longest device's time. ``cells``
    is empty where a sweep was started."""

    cells: tuple[PlannedCell, ...]
    measured: int
    rounds_each: int
    rounds: int
    runs: int
    estimate_ns: int
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True, slots=True)
class StartedSweep:
    """A sweep that now runs; ``plan`` is None where it was there and is resumed."""

    sweep: SweepRecord
    rounds_added: int
    plan: SweepPlan | None = None


@dataclass(frozen=True, slots=True)
class SweepLook:
    """How a sweep stands: runs with a result and all that are planned, rounds by state, results by
    verdict, the time left by the pace so far, and how many of its measured ``cells`` have fewer
    results that hold than it has rounds."""

    sweep: SweepRecord
    runs_done: int
    runs_total: int
    rounds: Mapping[RoundState, int]
    verdicts: Mapping[str, int]
    left_ns: int
    cells: int
    cells_short: int
    latest: ResultRecord | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will come unless it is resumed."""
        return self.sweep.state is not SweepState.RUNNING


@dataclass(frozen=True, slots=True)
class ExportOrder:
    """Results of ``sweep`` (empty: of every sweep) as ``file_format``, one of
    :data:`assay.controller.exporting.export.FORMATS`."""

    sweep: str
    file_format: str
    samples: bool = False
    superseded: bool = False


@dataclass(frozen=True, slots=True)
class Exported:
    """How many results a file holds, and how many of their traces were not there."""

    results: int
    missing_traces: int


@dataclass(frozen=True, slots=True)
class SweepRound:
    """A round as ``assay sweep show`` lists it; ``device`` is a name, ``grants`` how often it was
    granted, ``trouble`` what last went wrong with it."""

    index: int
    group: str
    device: str
    state: str
    runs: int
    grants: int
    round_id: str
    trouble: str = ""
