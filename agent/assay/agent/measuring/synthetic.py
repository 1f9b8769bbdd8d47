"""Writes made-up inputs for a model that is measured where no data is at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from assay.core.dims import Sizes, settle
from assay.core.errors import UsageError
from assay.core.npz import write_npz
from assay.core.synthetic import SAMPLES, describe, make_inputs
from assay.core.tensors import TensorSpec


def write_synthetic(
    path: Path,
    inputs: Sequence[TensorSpec],
    dims: Mapping[str, int],
    seed: int,
    samples: int = SAMPLES,
) -> tuple[Sizes, str]:
    """Writes an .npz with seeded samples for each input (see :mod:`assay.core.synthetic`); returns
    their sizes, and how they were made as JSON."""
    sizes = settle(inputs, dims)
    write_npz(path, make_inputs(inputs, sizes, seed, samples=samples))
    return sizes, describe(inputs, sizes, seed)


def dims_of(inputs: Sequence[TensorSpec], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """The open dimensions that whole shapes, one per input, give sizes to; a batch of 1 is left
    open. :class:`UsageError` where a shape is not the model's."""
    there = {spec.name: spec for spec in inputs}
    found: dict[str, int] = {}
    for name, shape in shapes.items():
        spec = there.get(name)
        if spec is None:
            known = ", ".join(str(one) for one in inputs)
            raise UsageError(f"--shape {name}: the model has no such input; it takes {known}")
        fixed = [size for size in zip(spec.shape, shape, strict=False) if size[0] is not None]
        if len(shape) != len(spec.shape):
            raise UsageError(f"--shape {name}: {len(shape)} sizes given for input {spec}")
        if any(wanted != size for wanted, size in fixed):
            raise UsageError(f"--shape {name}: {shape} is not a shape of input {spec}")
        for axis, size in enumerate(shape):
            if spec.shape[axis] is None and (axis or size != 1):
                found[spec.dimension(axis)] = size
    return found
