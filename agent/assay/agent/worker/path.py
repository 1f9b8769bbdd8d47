"""The timed path: the way from the loop to the runtime that a run's samples are taken on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from assay.agent.runtimes.base import Bound, Runtime, no_op
from assay.agent.worker.isolation import Schedule
from assay.agent.worker.loop import (
    ClosedLoop,
    OpenLoop,
    QueryLoop,
    ScheduledLoop,
    even_gaps_ns,
    poisson_gaps_ns,
)
from assay.agent.worker.timed import Timer
from assay.core.errors import AssayError, UsageError
from assay.core.model import Absent, Fidelity, Mode, RunSpec, RuntimeSpec, Scenario, ScenarioKind

_HARNESS_QUERIES = 20_000
_BINDING_QUERIES = 4_000


class TimedPath(Protocol):
    """Bound queries and the loops that time them; :class:`BindingPath` in Python, and
    :class:`assay.agent.worker.native.NativePath` in C."""

    @property
    def fidelity(self) -> Fidelity:
        """How close to the metal it is."""
        ...

    def closed_loop(self) -> QueryLoop:
        """Query after query in the bound order, which the seed has shuffled."""
        ...

    def open_loop(self, gaps_ns: Iterator[int], *, from_intended: bool) -> ScheduledLoop:
        """Queries at times set beforehand."""
        ...

    def harness_floor_ns(self, schedule: Schedule) -> float:
        """The median of the loop around a no-op, under the timed part's schedule."""
        ...

    def binding_floor_ns(
        self, library: type[Runtime], spec: RuntimeSpec, schedule: Schedule
    ) -> float | Absent:
        """The median of a one-operator model on this path; Absent where the runtime takes none."""
        ...


class BindingPath:
    """The runtime's raw callables, called from Python."""

    def __init__(self, bound: Bound) -> None:
        self._bound = bound

    @property
    def fidelity(self) -> Fidelity:
        """As the runtime bound it."""
        return self._bound.fidelity

    def closed_loop(self) -> ClosedLoop:
        """See :class:`TimedPath`."""
        return ClosedLoop(self._bound, range(len(self._bound.calls)))

    def open_loop(self, gaps_ns: Iterator[int], *, from_intended: bool) -> OpenLoop:
        """See :class:`TimedPath`."""
        order = range(len(self._bound.calls))
        return OpenLoop(self._bound, order, gaps_ns, from_intended=from_intended)

    def harness_floor_ns(self, schedule: Schedule) -> float:
        """See :class:`TimedPath`."""
        stages = (no_op,) if self._bound.stages is not None else None
        empty = Bound((no_op,), stages, self._bound.outputs, self._bound.fidelity)
        return Timer(ClosedLoop(empty, (0,)), schedule).floor_ns(_HARNESS_QUERIES)

    def binding_floor_ns(
        self, library: type[Runtime], spec: RuntimeSpec, schedule: Schedule
    ) -> float | Absent:
        """See :class:`TimedPath`."""
        import numpy as np

        try:
            tiny = library.load(library.one_operator_model(), spec)
            bound = tiny.bind([{tiny.inputs[0].name: np.ones(4, dtype=np.float32)}])
            timer = Timer(ClosedLoop(bound, (0,)), schedule)
            timer.floor_ns(_BINDING_QUERIES // 10)
            return timer.floor_ns(_BINDING_QUERIES)
        except AssayError as error:
            return Absent(str(error))


def is_open(run: RunSpec) -> bool:
    """Whether the run's queries come at set times."""
    return run.scenario.kind is ScenarioKind.SERVER or run.scenario.mode is Mode.PACED


def scheduled_loop(path: TimedPath, run: RunSpec) -> ScheduledLoop | None:
    """The loop of a run whose queries come at set times, None for a closed one;
    :class:`UsageError` where it lacks the rate it needs."""
    if not is_open(run):
        return None
    rate = _rate(run.scenario)
    if run.scenario.kind is ScenarioKind.SERVER:
        return path.open_loop(poisson_gaps_ns(rate, run.seed), from_intended=True)
    return path.open_loop(even_gaps_ns(rate), from_intended=False)


def _rate(scenario: Scenario) -> float:
    if scenario.target_qps is None or not scenario.target_qps > 0:
        kind = "server" if scenario.kind is ScenarioKind.SERVER else "paced"
        raise UsageError(f"a {kind} run needs scenario.target_qps, in queries per second")
    return scenario.target_qps
