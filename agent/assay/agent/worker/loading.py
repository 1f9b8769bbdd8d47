"""From a fresh process to bound queries and the first inference, with memory read in between."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.agent.runtimes import runtime
from assay.agent.runtimes.base import LoadedModel, Runtime
from assay.agent.worker.checks import largest_error, nonfinite
from assay.agent.worker.feeds import Dataset, load_arrays
from assay.agent.worker.interpreter import inference
from assay.agent.worker.memory import ProcessMemory
from assay.agent.worker.pagecache import page_cache_state
from assay.agent.worker.queries import Queries, bind_queries
from assay.core.errors import RuntimeRejected
from assay.core.model import ColdStart, MemorySplit, RunSpec, WorkerOrder
from assay.core.preprocess import Preprocessing

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Between two paths of one library: other kernels may be chosen, other numbers may not come out.
_PATHS_RTOL, _PATHS_ATOL = 1e-3, 1e-5


@dataclass(frozen=True, slots=True)
class Ready:
    """A model that has answered once, and everything known by then."""

    library: type[Runtime]
    model: LoadedModel
    data: Dataset
    arrays: dict[str, NDArray[Any]]
    queries: Queries
    cold: ColdStart
    memory: MemorySplit


def make_ready(order: WorkerOrder, memory: ProcessMemory) -> Ready:
    """Imports the runtime, loads the model, binds the samples, runs the first inference."""
    run = order.run
    library = runtime(run.runtime.name)
    library.version()
    base = memory.resident_bytes()
    path = Path(order.model_path)
    cache = page_cache_state(path)
    model, load_ns = _load(library, path, run)
    loaded = memory.resident_bytes()
    arrays = load_arrays(Path(order.inputs_path))
    preprocessing = Preprocessing.from_json(run.inputs.preprocessing_json or "{}")
    data = Dataset(arrays, preprocessing, model.inputs)
    queries = bind_queries(model, data, run)
    before_first = memory.peak_bytes()
    first_ns, grown = _first_inference(queries, memory, run.runtime.name)
    split = MemorySplit(
        runtime_base_bytes=base,
        model_load_bytes=None if base is None or loaded is None else max(loaded - base, 0),
        infer_peak_bytes=grown,
        process_peak_bytes=before_first,
        absent_reason="" if grown is not None else "infer_peak: /proc/self/clear_refs is refused",
    )
    cold = ColdStart(load_ns, first_ns, cache)
    return Ready(library, model, data, arrays, queries, cold, split)


def path_notes(ready: Ready) -> dict[str, str]:
    """What is wrong with the outputs of the path that is timed: not numbers, or not those of the
    plain path. To be asked right after the first inference."""
    outputs = ready.queries.bound.outputs(0)
    bad = nonfinite(outputs, ready.model.outputs)
    if bad:
        return {"outputs_nonfinite": bad}
    again = not (ready.queries.grouped or ready.model.remembers)
    off = outputs_off(outputs, ready) if again else ""
    return {"paths_differ": off} if off else {}


def outputs_off(outputs: list[NDArray[Any]], ready: Ready) -> str:
    """How far ``outputs``, of the first call's inputs, lie from the plain path's; empty where
    they are the same within what other kernels may do."""
    plain = ready.model.run(ready.queries.feeds[0])
    error, close = largest_error(outputs, plain, _PATHS_RTOL, _PATHS_ATOL)
    return "" if close else f"{error:.3g}"


def _load(library: type[Runtime], path: Path, run: RunSpec) -> tuple[LoadedModel, int]:
    begin = time.perf_counter_ns()
    try:
        model = library.load(path, run.runtime)
    except OSError as error:
        raise RuntimeRejected(f"{path.name} cannot be read: {error.strerror}") from error
    return model, time.perf_counter_ns() - begin


def _first_inference(
    queries: Queries, memory: ProcessMemory, runtime_name: str
) -> tuple[int, int | None]:
    """Nanoseconds of the very first call, and how far the peak rose over it (None if the kernel
    does not let the peak be reset)."""
    bound = queries.bound
    if bound.stages is not None:
        bound.stages[0]()
    can_reset = memory.reset_peak()
    resident = memory.resident_bytes()
    with inference(runtime_name):
        begin = time.perf_counter_ns()
        bound.calls[0]()
        first_ns = time.perf_counter_ns() - begin
    peak = memory.peak_bytes()
    known = can_reset and peak is not None and resident is not None
    return first_ns, max(peak - resident, 0) if known else None  # type: ignore[operator]
