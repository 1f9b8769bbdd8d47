"""Are the outputs right: against the golden ones, over the whole dataset, and between our paths."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from assay.agent.measuring.quality import Tally, class_scores
from assay.agent.runtimes.base import LoadedModel
from assay.agent.worker.feeds import Dataset
from assay.core.errors import BadInputs
from assay.core.model import GoldenCheck, GoldenSpec, Quality
from assay.core.tensors import TensorSpec, real_values

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Outputs = Sequence[NDArray[Any]]

_PROGRESS_EVERY_S = 5.0


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

    NaN equals NaN and an infinity itself, at the same place; anywhere else they, another shape, or
    another text are infinitely far off.
    """
    errors = [_error(one, other, rtol, atol) for one, other in zip(found, wanted, strict=False)]
    worst = max((error for error, _ in errors), default=0.0)
    return worst, len(found) == len(wanted) and all(close for _, close in errors)


def check_golden(
    model: LoadedModel, golden: Dataset, arrays: dict[str, NDArray[Any]], spec: GoldenSpec
) -> GoldenCheck:
    """Runs the golden inputs one by one and compares with ``output_0``, ``output_1``, ...

    Quantised outputs may be golden as stored or as real values; the type of the file decides. The
    file may hold a tolerance for each output (``tolerances``: rtol and atol), which goes before
    ``spec``'s.
    """
    wanted = _golden_outputs(arrays, len(model.outputs), len(golden))
    limits = _tolerances(arrays, len(wanted), spec)
    size = golden.batch
    worst, within = 0.0, True
    for start in range(0, len(golden), size):
        rows = slice(start, min(start + size, len(golden)))
        outputs = model.run(_filled(golden, rows, size))
        real = real_values(outputs, model.outputs)
        for i, (rtol, atol) in enumerate(limits):
            reference = wanted[i][rows]
            output = outputs[i] if outputs[i].dtype == reference.dtype else real[i]
            if rows.stop - rows.start < size:
                output = output[: rows.stop - rows.start]
            error, close = _error(output, reference, rtol, atol)
            worst, within = max(worst, error), within and close
    return GoldenCheck(len(golden), worst, within)


def golden_nonfinite(arrays: dict[str, NDArray[Any]]) -> bool:
    """Whether the reference run itself gave NaN or infinity."""
    import numpy as np

    return any(
        name.startswith("output_") and array.dtype.kind == "f" and not np.isfinite(array).all()
        for name, array in arrays.items()
    )


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


def _tolerances(
    arrays: dict[str, NDArray[Any]], outputs: int, spec: GoldenSpec
) -> list[tuple[float, float]]:
    held = arrays.get("tolerances")
    if held is None:
        return [(spec.rtol, spec.atol)] * outputs
    if held.shape != (outputs, 2):
        raise BadInputs(f"the golden file has tolerances of shape {held.shape}")
    return [(float(rtol), float(atol)) for rtol, atol in held]


def _error(
    found: NDArray[Any], wanted: NDArray[Any], rtol: float, atol: float
) -> tuple[float, bool]:
    import numpy as np

    found, wanted = found.ravel(), wanted.ravel()
    if found.size != wanted.size:
        return math.inf, False
    if found.dtype.kind in "OU" or wanted.dtype.kind in "OU":
        same_text = found.astype(str).tolist() == wanted.astype(str).tolist()
        return (0.0, True) if same_text else (math.inf, False)
    a, b = found.astype(np.float64), wanted.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.abs(a - b))
        allowed = atol + rtol * np.abs(b)
    difference[np.isnan(difference)] = math.inf
    allowed[~np.isfinite(allowed)] = 0.0
    close = bool((difference <= allowed).all())
    if not (rtol or atol) and found.dtype == wanted.dtype and found.dtype.kind in "iu":
        close = bool(np.array_equal(found, wanted))  # 64 bits do not fit a float
    return float(difference.max(initial=0.0)), close
