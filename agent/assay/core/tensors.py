"""A model's inputs and outputs, and how values take the type of one; the same on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assay.core.errors import BadInputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

STRING = "str"
# What exporters write for every open dimension alike; two of them need not be equal.
_PLACEHOLDERS = ("?", "None", "-1")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model.

    ``dtype`` is numpy's name, ``str`` for text. A dimension that is open is None, with its name in
    ``symbols`` where the model gives it one. ``scale`` is 0 unless the tensor is quantised: real
    value = ``scale * (stored - zero_point)``.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    symbols: tuple[str, ...] = ()
    scale: float = 0.0
    zero_point: int = 0

    def __str__(self) -> str:
        named = self.symbols or ("",) * len(self.shape)
        sizes = (
            str(size) if size is not None else name or "?"
            for size, name in zip(self.shape, named, strict=True)
        )
        return f"{self.name} {self.dtype}[{','.join(sizes)}]"

    def dimension(self, axis: int) -> str:
        """What an open dimension is called: by the model, else ``input[axis]``."""
        return (self.symbols[axis] if self.symbols else "") or f"{self.name}[{axis}]"


def symbol(size: object) -> str:
    """The model's name for a dimension; empty for a size, and for what stands for any dimension."""
    return size if isinstance(size, str) and size not in _PLACEHOLDERS else ""


def convert(values: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    """``values`` in the type of ``spec``; real values of a quantised input are quantised by its own
    scale and zero point. :class:`BadInputs` where a type cannot hold them."""
    import numpy as np

    if (values.dtype.kind in "UO") != (spec.dtype == STRING):
        raise BadInputs(f"input {spec} cannot hold {values.dtype.name} values")
    if spec.dtype == STRING:
        return values.astype(object)
    dtype = np.dtype(spec.dtype)
    if values.dtype == dtype:
        return values
    if dtype.kind not in "ui":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    if spec.scale:
        # In float32, as whoever made golden outputs does: a tie must round alike.
        steps = np.rint(values.astype(np.float32) / np.float32(spec.scale)) + spec.zero_point
        clipped: NDArray[Any] = np.clip(steps, limits.min, limits.max).astype(dtype)
        return clipped
    if values.dtype.kind == "f" and not np.array_equal(values, np.rint(values)):
        raise BadInputs(f"input {spec} takes whole numbers; the samples are not")
    if values.size and (int(values.min()) < limits.min or int(values.max()) > limits.max):
        raise BadInputs(f"the samples leave the range of input {spec}")
    return values.astype(dtype)


def real_values(outputs: Sequence[NDArray[Any]], specs: Sequence[TensorSpec]) -> list[NDArray[Any]]:
    """Quantised outputs as float32; all others as they are."""
    import numpy as np

    return [
        (output.astype(np.float32) - np.float32(spec.zero_point)) * np.float32(spec.scale)
        if spec.scale
        else output
        for output, spec in zip(outputs, specs, strict=True)
    ]
