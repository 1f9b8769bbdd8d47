"""Inputs made up from a model's declared shapes, for measuring where no data is at hand.

They are good for latency and memory, not for accuracy: results say so (``synthetic_input``).
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.agent.runtimes.base import TensorSpec
from assay.core.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLES = 32


def write_synthetic(
    path: Path,
    inputs: Sequence[TensorSpec],
    shapes: Mapping[str, tuple[int, ...]],
    seed: int,
    samples: int = SAMPLES,
) -> None:
    """Writes an .npz with ``samples`` seeded samples for each input.

    Floats are standard normal; bytes and quantised integers span their range; other integers are
    0 or 1, which any index takes. ``shapes`` gives the sizes of inputs with open dimensions beyond
    the first (:class:`UsageError` names those that lack one).
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    unknown = sorted(set(shapes) - {spec.name for spec in inputs})
    if unknown:
        known = ", ".join(str(spec) for spec in inputs)
        raise UsageError(f"--shape {unknown[0]}: the model has no such input; it takes {known}")
    with zipfile.ZipFile(path, "w") as archive:
        for spec in inputs:
            shape = _sample_shape(spec, shapes.get(spec.name))
            with archive.open(f"{spec.name}.npy", "w") as member:
                values = _values(rng, spec, (samples, *shape))
                np.lib.format.write_array(member, values, allow_pickle=False)


def _sample_shape(spec: TensorSpec, given: tuple[int, ...] | None) -> tuple[int, ...]:
    """One sample: a leading dimension of one, or an open one, is the batch and no part of it."""
    shape = tuple(given) if given is not None else spec.shape
    if given is not None and len(given) != len(spec.shape):
        raise UsageError(f"--shape {spec.name}: {len(given)} sizes given for input {spec}")
    inner = shape[1:] if shape and shape[0] in (None, 1) else shape
    if given is not None and spec.shape[0] is None:
        inner = shape[1:]
    sizes = [size for size in inner if size is not None]
    if len(sizes) != len(inner):
        example = ",".join(str(size or 8) for size in shape)
        raise UsageError(
            f"input {spec} has open dimensions: give its size, e.g. --shape {spec.name}={example}"
        )
    return tuple(sizes)


def _values(rng: np.random.Generator, spec: TensorSpec, shape: tuple[int, ...]) -> NDArray[Any]:
    import numpy as np

    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(dtype)
    if spec.scale or dtype.itemsize == 1:
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    return rng.integers(0, 2, shape).astype(dtype)
