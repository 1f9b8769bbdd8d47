"""One run from the first import to the report, in the order docs/measurement.md argues for.

Memory is read and the first inference timed before anything else has run; accuracy and floors come
after the timed part, so that they cannot disturb it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assay.agent.runtimes.base import LoadedModel
from assay.agent.worker import clockprobe, interpreter
from assay.agent.worker.checks import check_golden, evaluate, golden_nonfinite
from assay.agent.worker.counters import Counters, change, read_counters
from assay.agent.worker.feeds import Dataset, load_arrays
from assay.agent.worker.isolation import Schedule, choose_schedule, pin
from assay.agent.worker.loading import Ready, make_ready, path_notes
from assay.agent.worker.loop import ScheduledLoop, new_buffer
from assay.agent.worker.memory import ProcessMemory
from assay.agent.worker.native import RUNTIME as NATIVE_RUNTIME
from assay.agent.worker.native import open_native
from assay.agent.worker.notes import model_notes, timed_notes
from assay.agent.worker.path import BindingPath, TimedPath, is_open, scheduled_loop
from assay.agent.worker.steps import step_notes
from assay.agent.worker.timed import Timed, Timer, WarmUp, latency_of
from assay.core import stats
from assay.core.errors import AssayError
from assay.core.model import (
    Absent,
    Failure,
    FailureClass,
    GoldenCheck,
    Isolation,
    Latency,
    MemorySplit,
    Quality,
    RunSpec,
    ScenarioKind,
    WorkerOrder,
    WorkerReport,
)
from assay.core.preprocess import Preprocessing
from assay.core.trace import Trace, write_trace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from assay.agent.native import NativeLoop

Say = Callable[[str], None]

_LONGEST_SCHEDULE_NS = 60_000_000_000
_TRIAL_QUERIES, _TRIAL_NS = 10, 200_000_000
_WORTH_ANOTHER_TRY = frozenset({"internal", "worker_crashed", "worker_timeout", "disk_full"})
_BY_THE_DEVICE = frozenset({"runtime_absent"})


def conduct(order: WorkerOrder, say: Say, native: NativeLoop | Absent) -> WorkerReport:
    """Does what ``order`` says and writes the trace; ``say`` hears each state as it begins, and
    ``native`` times the run where it can.

    What the model, the runtime or the inputs are to blame for is a report with ``failure``.
    """
    isolation = pin(order.measure_cpus)
    try:
        return _conduct(order, isolation, say, native)
    except AssayError as error:
        return failed(error.code, str(error), isolation)
    except MemoryError as error:
        return failed("worker_oom", f"the worker ran out of memory: {error}", isolation)


def failed(code: str, message: str, isolation: Isolation = Isolation.NONE) -> WorkerReport:
    """A report that holds nothing but why there is no number."""
    return WorkerReport(
        latency=None,
        cold=None,
        memory=None,
        quality=None,
        golden=None,
        runtime_version="",
        placement=(),
        isolation=isolation,
        failure=Failure(failure_class_of(code), code, message),
    )


def failure_class_of(code: str) -> FailureClass:
    """Who is at fault for an error code; what the infrastructure did is worth another try."""
    if code in _BY_THE_DEVICE:
        return FailureClass.DEVICE
    return FailureClass.INFRA if code in _WORTH_ANOTHER_TRY else FailureClass.MODEL


@dataclass(frozen=True, slots=True)
class _Window:
    """The timed part with the counters around it."""

    timed: Timed
    before: Counters
    after: Counters
    clock_probe_change: float


def _conduct(
    order: WorkerOrder, pinned: Isolation, say: Say, native: NativeLoop | Absent
) -> WorkerReport:
    run, memory = order.run, ProcessMemory()
    say("loading")
    ready = make_ready(order, memory)
    notes = path_notes(ready)
    remembers = ready.model.remembers
    golden = None if remembers else _golden(order, ready.model, notes)
    schedule = _schedule(order, pinned, ready)
    # From here on the process holds what is ours: sample buffers, a second copy of the model.
    split = _memory(ready, memory, notes)
    if remembers:
        # Golden outputs begin where a model has seen nothing yet.
        golden = _golden(order, ready.library.load(Path(order.model_path), run.runtime), notes)
    path = _path(order, ready, native, notes)
    open_loop = scheduled_loop(path, run)
    timer = Timer(open_loop or path.closed_loop(), schedule, path.closed_loop())
    say("warming")
    with interpreter.inference(run.runtime.name):
        warm = timer.warm_up(run.profile, run.scenario.mode)
    say("measuring")
    window = _measure(timer, run, schedule, open_loop, say)
    say("evaluating")
    notes |= timed_notes(window.timed, open_loop, run) | step_notes(ready)
    latency = _latency(path, ready, run, schedule, window.timed, notes)
    quality, predictions = _quality(ready, run, say, notes)
    _write_trace(order, window.timed, warm, predictions)
    notes |= model_notes(ready)
    report = WorkerReport(
        latency=latency,
        cold=ready.cold,
        memory=split,
        quality=quality,
        golden=golden,
        runtime_version=ready.model.runtime_version,
        placement=ready.model.placement(),
        isolation=schedule.isolation,
        warmup_ns=warm.elapsed_ns,
        warmup_queries=warm.queries,
        steady=warm.steady,
        notes=notes,
    )
    return _with_window(report, window, order.measure_cpus)


def _golden(order: WorkerOrder, model: LoadedModel, notes: dict[str, str]) -> GoldenCheck | None:
    spec = order.run.golden
    if spec is None or not order.golden_path:
        return None
    arrays = load_arrays(Path(order.golden_path))
    # Golden samples are kept as the model takes them: preprocessing has been applied.
    golden = Dataset(arrays, Preprocessing(), model.inputs)
    if golden_nonfinite(arrays):
        notes["golden_nonfinite"] = "the reference run gave NaN or infinity"
    return check_golden(model, golden, arrays, spec)


def _schedule(order: WorkerOrder, pinned: Isolation, ready: Ready) -> Schedule:
    """By how long a query takes once the first ones are over."""
    with interpreter.inference(order.run.runtime.name):
        out = new_buffer(_TRIAL_QUERIES)
        loop = BindingPath(ready.queries.bound).closed_loop()
        taken = loop.run_block(_TRIAL_QUERIES, _TRIAL_NS, out)
    open_ended = order.continuous or is_open(order.run)
    return choose_schedule(pinned, continuous=open_ended, query_ns=out[taken - 1])


def _memory(ready: Ready, memory: ProcessMemory, notes: dict[str, str]) -> MemorySplit:
    """The split with the peak over loading, checks and the first queries."""
    own = memory.uss_bytes()
    if own is not None:
        notes["uss_bytes"] = str(own)
    peaks = [p for p in (ready.memory.process_peak_bytes, memory.peak_bytes()) if p is not None]
    return dataclasses.replace(
        ready.memory, process_peak_bytes=max(peaks, default=None), pss_bytes=memory.pss_bytes()
    )


def _path(
    order: WorkerOrder, ready: Ready, native: NativeLoop | Absent, notes: dict[str, str]
) -> TimedPath:
    """In C where that can be, else by the runtime's binding."""
    found = open_native(native, ready, order.run, Path(order.model_path))
    if not isinstance(found, Absent):
        return found
    if order.run.runtime.name == NATIVE_RUNTIME:
        notes["native_loop_absent"] = found.reason
    return BindingPath(ready.queries.bound)


def _measure(
    timer: Timer, run: RunSpec, schedule: Schedule, open_loop: ScheduledLoop | None, say: Say
) -> _Window:
    def pause() -> None:
        # The agent speaks to its controller in between; where it hears of a cancel, this ends here.
        say("pausing")
        say("measuring")

    profile = run.profile
    block_ns = min(_LONGEST_SCHEDULE_NS, profile.t_min_ns) if open_loop is not None else None
    with interpreter.quiet(), interpreter.inference(run.runtime.name):
        probe = _probe_ns(schedule)
        before = read_counters()
        timed = timer.measure(profile, run.seed, block_ns, pause)
        after = read_counters()
        probe_after = _probe_ns(schedule)
    return _Window(timed, before, after, probe_after / probe - 1)


def _probe_ns(schedule: Schedule) -> int:
    with schedule.block():
        return clockprobe.probe_ns()


def _latency(
    path: TimedPath,
    ready: Ready,
    run: RunSpec,
    schedule: Schedule,
    timed: Timed,
    notes: dict[str, str],
) -> Latency:
    with interpreter.quiet(), interpreter.inference(run.runtime.name):
        harness_ns = path.harness_floor_ns(schedule)
        binding_ns = path.binding_floor_ns(ready.library, run.runtime, schedule)
    if isinstance(binding_ns, Absent):
        notes["binding_floor_absent"] = binding_ns.reason
    return latency_of(
        timed,
        run.seed,
        fidelity=path.fidelity,
        harness_floor_ns=harness_ns,
        binding_floor_ns=None if isinstance(binding_ns, Absent) else binding_ns,
        response_time=run.scenario.kind is ScenarioKind.SERVER,
    )


def _quality(
    ready: Ready, run: RunSpec, say: Say, notes: dict[str, str]
) -> tuple[Quality | None, NDArray[np.int32] | None]:
    if not run.evaluate:
        return None, None
    found = evaluate(ready.model, ready.data, run.inputs.dataset, say)
    if found is None:
        notes["quality_absent"] = "no labels, or no output with a score per class"
        return None, None
    return found


def _write_trace(
    order: WorkerOrder, timed: Timed, warm: WarmUp, predictions: NDArray[np.int32] | None
) -> None:
    import numpy as np

    kept = timed.reservoir
    trace = Trace(
        latency_ns=kept.samples(),
        index=kept.index(),
        histogram=kept.histogram() if kept.full else None,
        block_start_ns=np.asarray(timed.block_start_ns, dtype=np.int64),
        block_queries=np.asarray(timed.block_queries, dtype=np.int64),
        warmup_median_ns=np.asarray(warm.block_medians_ns, dtype=np.float64),
        predictions=predictions,
    )
    write_trace(Path(order.run_dir) / "trace.npz", trace)


def _with_window(
    report: WorkerReport, window: _Window, measure_cpus: tuple[int, ...]
) -> WorkerReport:
    timed, before, after = window.timed, window.before, window.after
    seen = change(before, after, measure_cpus)
    return dataclasses.replace(
        report,
        timed_start_ns=before.monotonic_ns,
        timed_end_ns=after.monotonic_ns,
        cpu_ns=float(timed.cpu_ns),
        involuntary_switches=timed.involuntary_switches,
        major_faults=timed.major_faults,
        clock_jump_ns=seen.clock_jump_ns,
        drift=stats.drift(timed.reservoir.samples()),
        steal_share=seen.steal_share,
        psi_cpu_some_share=seen.psi_cpu_some_share,
        background_share=seen.background_share,
        run_delay_share=_share_of(timed.run_delay_ns, timed.duration_ns),
        swapped_pages=seen.swapped_pages,
        clock_probe_change=window.clock_probe_change,
    )


def _share_of(part_ns: int | None, whole_ns: int) -> float | None:
    return part_ns / whole_ns if part_ns is not None and whole_ns > 0 else None
