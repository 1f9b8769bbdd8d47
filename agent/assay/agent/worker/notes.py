"""What else is worth keeping of a run, as text by name; it ends in the result's conditions."""

from __future__ import annotations

from dataclasses import replace

from assay.agent.worker.loading import Ready
from assay.agent.worker.loop import ScheduledLoop
from assay.agent.worker.timed import Timed
from assay.core.model import Mode, RunSpec
from assay.core.tensors import TensorSpec


def timed_notes(timed: Timed, open_loop: ScheduledLoop | None, run: RunSpec) -> dict[str, str]:
    """How the timed part went: why it ended, what was offered and served, how a long run aged."""
    notes = {"stopped_by": timed.stop.value if timed.stop else ""}
    seen = timed.reservoir.seen
    if timed.reservoir.full:
        notes["samples_kept"] = f"{len(timed.reservoir.samples())} of {seen}, chosen uniformly"
    if open_loop is not None:
        notes["late_start_fraction"] = f"{open_loop.late / seen:.4f}"
        notes["offered_qps"] = f"{run.scenario.target_qps:g}"
        notes["served_qps"] = f"{seen * 1e9 / timed.duration_ns:.4g}"
        notes["last_late_ns"] = str(open_loop.last_late_ns)
    if run.scenario.mode is Mode.SUSTAINED:
        medians = timed.period_medians_ns(_period_ns(timed.duration_ns))
        notes["period_medians_ns"] = " ".join(f"{m:.0f}" for m in medians)
        notes["last_to_first"] = f"{medians[-1] / medians[0]:.4f}" if medians[0] else ""
    return notes


def model_notes(ready: Ready) -> dict[str, str]:
    """What only the loaded model could tell; what is empty is left out."""
    notes = {
        "input": ", ".join(_fed(spec, ready) for spec in ready.model.inputs),
        "precision": ready.model.precision,
        "samples_per_query": str(ready.queries.samples_per_query),
        "distinct_queries": str(len(ready.queries.bound.calls)),
        "fallback": ready.model.fallback(),
        "grouped": "samples of a query run in turn" if ready.queries.grouped else "",
    }
    return {name: value for name, value in notes.items() if value}


def _fed(spec: TensorSpec, ready: Ready) -> str:
    """An input, with the sizes it was given in place of the names of its open dimensions."""
    return str(replace(spec, shape=ready.queries.feeds[0][spec.name].shape, symbols=()))


def _period_ns(duration_ns: int) -> int:
    """A minute, or a tenth of a run that is shorter than ten."""
    return min(60_000_000_000, max(duration_ns // 10, 1))
