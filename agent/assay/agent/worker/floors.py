"""What the harness itself costs, measured with every result and never subtracted."""

from __future__ import annotations

from dataclasses import dataclass

from assay.agent.runtimes.base import Bound, Runtime, no_op
from assay.agent.worker.isolation import Schedule
from assay.agent.worker.loop import ClosedLoop
from assay.agent.worker.timed import Timer
from assay.core.errors import AssayError
from assay.core.model import RuntimeSpec

_HARNESS_QUERIES = 20_000
_BINDING_QUERIES = 4_000


@dataclass(frozen=True, slots=True)
class Floors:
    """Medians in ns: the same loop around a no-op, and around a one-operator model on the same
    path (None with the reason where the runtime does not take it)."""

    harness_ns: float
    binding_ns: float | None
    absent_reason: str = ""


def measure_floors(
    library: type[Runtime], spec: RuntimeSpec, bound: Bound, schedule: Schedule
) -> Floors:
    """Both floors, with the priority and pinning of the timed part; some tens of milliseconds."""
    stages = (no_op,) if bound.stages is not None else None
    empty = Bound((no_op,), stages, bound.outputs, bound.fidelity)
    harness = Timer(ClosedLoop(empty, (0,)), schedule).floor_ns(_HARNESS_QUERIES)
    try:
        return Floors(harness, _binding_floor(library, spec, schedule))
    except AssayError as error:
        return Floors(harness, None, str(error))


def _binding_floor(library: type[Runtime], spec: RuntimeSpec, schedule: Schedule) -> float:
    import numpy as np

    tiny = library.load(library.one_operator_model(), spec)
    feed = {tiny.inputs[0].name: np.ones(4, dtype=np.float32)}
    timer = Timer(ClosedLoop(tiny.bind([feed]), (0,)), schedule)
    timer.floor_ns(_BINDING_QUERIES // 10)
    return timer.floor_ns(_BINDING_QUERIES)
