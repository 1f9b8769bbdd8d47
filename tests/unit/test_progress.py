"""Progress is counted from rounds and results alone."""

from __future__ import annotations

from dataclasses import replace

from assay.controller.planning.progress import lacking, measure_progress
from assay.controller.records import RoundState, SweepState
from assay.core.model import VerdictKind
from tests.planning import plan, record


def test_a_fresh_sweep_has_everything_before_it() -> None:
    made = plan()
    seen = measure_progress(made.sweep, made.rounds, [])
    assert (seen.runs_done, seen.runs_total) == (0, 18)
    assert seen.left_ns == made.estimate_ns
    assert not seen.ended


def test_results_count_once_and_the_pace_gives_the_time_left() -> None:
    made = plan()
    first = replace(made.rounds[0], state=RoundState.LEASED)
    results = [record(run, VerdictKind.VALID) for run in first.runs[:2]]
    seen = measure_progress(made.sweep, [first, *made.rounds[1:]], results)
    assert (seen.runs_done, seen.runs_total) == (2, 18)
    assert seen.left_ns == 16 * results[0].result.provenance.duration_ns
    assert seen.verdicts == {"valid": 2}
    assert seen.latest == tuple(results)


def test_runs_of_cancelled_rounds_are_not_waited_for() -> None:
    made = plan()
    rounds = [replace(r, state=RoundState.CANCELLED) for r in made.rounds]
    seen = measure_progress(replace(made.sweep, state=SweepState.CANCELLED), rounds, [])
    assert (seen.runs_total, seen.left_ns, seen.ended) == (0, 0, True)


def test_a_cell_lacks_what_its_rounds_have_not_given_as_valid() -> None:
    made = plan()
    measured = [c.cell_key for c in made.cells if not c.run.canary]
    assert [c.cell_key for c in lacking(made.sweep, made.cells, [])] == measured
    results = [record(run, VerdictKind.VALID) for r in made.rounds for run in r.runs]
    assert lacking(made.sweep, made.cells, results) == []
    spoiled = next(r for r in results if not r.result.run.canary)
    verdict = replace(spoiled.result.verdict, kind=VerdictKind.SUSPECT)
    results[results.index(spoiled)] = replace(
        spoiled, result=replace(spoiled.result, verdict=verdict)
    )
    short = lacking(made.sweep, made.cells, results)
    assert [c.cell_key for c in short] == [spoiled.result.run.cell_key]
