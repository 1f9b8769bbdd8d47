"""The queries of a scenario: which samples, in which batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assay.agent.runtimes.base import Bound, Call, LoadedModel
from assay.agent.worker.feedback import fed_back
from assay.agent.worker.feeds import Dataset, choose_rows
from assay.core.model import RunSpec, Scenario, ScenarioKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

MULTI_STREAM_SAMPLES = 8
"""Samples in a query of MLPerf's multi_stream where the run does not say another number."""


@dataclass(frozen=True, slots=True)
class Queries:
    """Bound queries of ``samples_per_query``, and what was bound, call by call; ``grouped`` where
    a query is several calls because the model takes one sample at a time, ``stateful`` where a
    query takes what the one before gave."""

    bound: Bound
    feeds: tuple[dict[str, NDArray[Any]], ...]
    samples_per_query: int
    grouped: bool
    stateful: bool = False


def samples_per_query(scenario: Scenario) -> int:
    """At least one; eight for a multi_stream that names none."""
    asked = max(scenario.samples_per_query, 1)
    if scenario.kind is ScenarioKind.MULTI_STREAM and asked == 1:
        return MULTI_STREAM_SAMPLES
    return asked


def bind_queries(model: LoadedModel, data: Dataset, run: RunSpec) -> Queries:
    """Binds up to 64 distinct queries, chosen and ordered by the run's seed, without running any.

    Several samples go as one batch where the model takes one, else as calls one after another
    inside one query. Where state is passed on, samples keep their order.
    """
    size = samples_per_query(run.scenario)
    state = run.inputs.state
    grouped = size > 1 and not data.takes(size)
    rows = choose_rows(len(data), size, data.sample_bytes * size, run.seed)
    if state:
        rows = [[(q * size + k) % len(data) for k in range(size)] for q in range(len(rows))]
    if grouped:
        rows = [[row] for group in rows for row in group]
    feeds = [data.feed(group, 1 if grouped else size) for group in rows]
    bound = model.bind(feeds)
    if state:
        bound = fed_back(bound, feeds, state, model.inputs, model.outputs)
    if grouped:
        bound = _grouped(bound, size)
    return Queries(bound, tuple(feeds), size, grouped, stateful=bool(state))


def _grouped(bound: Bound, size: int) -> Bound:
    stages = bound.stages or (None,) * len(bound.calls)
    pairs = list(zip(stages, bound.calls, strict=True))
    groups = [pairs[i : i + size] for i in range(0, len(pairs), size)]
    last = size - 1
    outputs: Callable[[int], list[Any]] = bound.outputs
    return dataclasses.replace(
        bound,
        calls=tuple(_in_turn(group) for group in groups),
        stages=None,
        outputs=lambda i: outputs(i * size + last),
    )


def _in_turn(pairs: list[tuple[Call | None, Call]]) -> Call:
    steps = [step for pair in pairs for step in pair if step is not None]

    def query() -> None:
        for step in steps:
            step()

    return query
