"""Preprocessing, postprocessing and end to end, apart from the inference that is measured."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from assay.agent.measuring.quality import class_scores
from assay.agent.worker.feeds import Dataset
from assay.agent.worker.loading import Ready
from assay.core import stats

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_SAMPLES = 100
_MAX_NS = 500_000_000


def step_notes(ready: Ready) -> dict[str, str]:
    """Medians in ns over up to 100 single queries or half a second, through the plain interface:
    ``preprocess_p50_ns`` (stored sample to model input), ``postprocess_p50_ns`` (scores to class)
    and ``end_to_end_p50_ns`` (all of it with the inference between)."""
    import numpy as np

    rows: list[tuple[int, int, int]] = []
    clock = time.perf_counter_ns
    deadline = clock() + _MAX_NS
    size = ready.data.batch
    for i in range(_MAX_SAMPLES):
        begin = clock()
        feed = ready.data.feed(_rows(ready.data, i, size), size)
        prepared = clock()
        outputs = ready.model.run(feed)
        inferred = clock()
        _classify(outputs, size)
        end = clock()
        rows.append((prepared - begin, end - inferred, end - begin))
        if end >= deadline:
            break
    columns = np.asarray(rows).T
    names = ("preprocess_p50_ns", "postprocess_p50_ns", "end_to_end_p50_ns")
    return {
        name: f"{stats.median(column):.0f}" for name, column in zip(names, columns, strict=True)
    }


def _rows(data: Dataset, i: int, size: int) -> list[int]:
    return [(i * size + k) % len(data) for k in range(size)]


def _classify(outputs: list[NDArray[Any]], batch: int) -> None:
    scores = class_scores(outputs, batch)
    if scores is not None:
        scores.argmax(axis=1)
