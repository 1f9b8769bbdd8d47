"""Are the outputs right: against the golden ones, over the whole dataset, and between our paths."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from assay.agent.measuring.quality import Tally, class_scores
from assay.agent.runtimes.base import LoadedModel, TensorSpec
from assay.agent.worker.feeds import Dataset
from assay.core.errors import BadInputs
from assay.core.model import GoldenCheck, GoldenSpec, Quality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Outputs = Sequence[NDArray[Any]]

_PROGRESS_EVERY_S = 5.0


def dequantised(outputs: Outputs, specs: Sequence[TensorSpec]) -> list[NDArray[Any]]:
    """Real values of quantised outputs; others as they are."""
    import numpy as np

    return [
        (output.astype(np.float32) - spec.zero_point) * np.float32(spec.scale)
        if spec.scale
        else output
        for output, spec in zip(outputs, specs, strict=True)
    ]


def nonfinite(outputs: Outputs, specs: Sequence[TensorSpec]) -> str:
    """Which outputs hold NaN or infinity, e.g. ``y: 3 of 10 values``; empty if none does."""
    import numpy as np

    found = []
    for output, spec in zip(outputs, specs, strict=True):
        bad = int(np.count_nonzero(~np.isfinite(output))) if output.dtype.kind == "f" else 0
        if bad:
            found.append(f"{spec.name}: {bad} of {output.size} values")
    return ", ".join(found)


def largest_error(found: Outputs, wanted: Outputs, rtol: float, atol: float) -> tuple[float, bool]:
    """The largest absolute difference, and whether all lie within ``atol + rtol * |wanted|``.

    A NaN on either side, or another shape, is infinitely far off.
    """
    import numpy as np

    worst, within = 0.0, len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=False):
        if one.size != other.size:
            return math.inf, False
        a = one.astype(np.float64).ravel()
        b = other.astype(np.float64).ravel()
        same = a == b
        with np.errstate(invalid="ignore"):
            difference = np.where(same, 0.0, np.abs(a - b))
            allowed = atol + rtol * np.abs(b)
        difference[np.isnan(difference)] = math.inf
        allowed[~np.isfinite(allowed)] = 0.0
        worst = max(worst, float(difference.max(initial=0.0)))
        within = within and bool((difference <= allowed).all())
    return worst, within


def check_golden(
    model: LoadedModel, golden: Dataset, arrays: dict[str, NDArray[Any]], spec: GoldenSpec
) -> GoldenCheck:
    """Runs the golden inputs one by one and compares with ``output_0``, ``output_1``, ...

    Quantised outputs may be golden as stored or as real values; the type of the file decides.
    """
    wanted = _golden_outputs(arrays, len(model.outputs), len(golden))
    size = golden.batch
    worst, within = 0.0, True
    for start in range(0, len(golden), size):
        rows = slice(start, min(start + size, len(golden)))
        reference = [column[rows] for column in wanted]
        outputs = model.run(_filled(golden, rows, size))
        if any(ref.dtype != out.dtype for ref, out in zip(reference, outputs, strict=True)):
            outputs = dequantised(outputs, model.outputs)
        if rows.stop - rows.start < size:
            outputs = [output[: rows.stop - rows.start] for output in outputs]
        error, close = largest_error(outputs, reference, spec.rtol, spec.atol)
        worst, within = max(worst, error), within and close
    return GoldenCheck(len(golden), worst, within)


def evaluate(
    model: LoadedModel, data: Dataset, dataset: str, progress: Callable[[str], None]
) -> tuple[Quality, NDArray[np.int32]] | None:
    """Accuracy over every sample with labels, and the predictions; None where the model has no
    output that holds a score per class, or the dataset no labels. ``progress`` hears of it every
    five seconds, so that a slow board is not taken for a hang."""
    import numpy as np

    if data.labels is None:
        return None
    size = data.batch
    tally = Tally(data.labels)
    told_s = time.monotonic()
    for start in range(0, len(data), size):
        rows = slice(start, min(start + size, len(data)))
        scores = class_scores(model.run(_filled(data, rows, size)), size)
        if scores is None:
            return None
        tally.add(scores[: rows.stop - rows.start])
        if time.monotonic() - told_s >= _PROGRESS_EVERY_S:
            told_s = time.monotonic()
            progress(f"evaluating {rows.stop}/{len(data)}")
    return tally.quality(dataset), np.asarray(tally.predictions, dtype=np.int32)


def _filled(data: Dataset, rows: slice, size: int) -> dict[str, NDArray[Any]]:
    """A batch of ``size``: a model of a fixed batch gets its last one filled up with a repeat."""
    chosen = list(range(rows.start, rows.stop))
    return data.feed(chosen + chosen[-1:] * (size - len(chosen)), size)


def _golden_outputs(arrays: dict[str, NDArray[Any]], outputs: int, n: int) -> list[NDArray[Any]]:
    found = []
    for i in range(outputs):
        column = arrays.get(f"output_{i}")
        if column is None or len(column) != n:
            raise BadInputs(f"the golden file has no output_{i} for each of its {n} samples")
        found.append(column)
    return found
