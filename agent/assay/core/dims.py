"""Which sizes a model's inputs have where the model leaves them open; pure.

A dimension is called by the model's own name for it, else ``input[axis]``. The first axis of every
input is the batch where nothing speaks against it: samples are then kept without it and put
together as a run asks. Else a sample is a whole set of inputs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from assay.core.errors import UsageError
from assay.core.tensors import TensorSpec

MAX_SAMPLE_ELEMENTS = 1 << 28
_BATCH = re.compile(
    r"^(batch.*|.*_batch|n|b|bs|unk__\d+|dynamic_?axes_?\d*|p2o\.DynamicDimension\.\d+|s\d+)?$",
    re.I,
)
# What people call a dimension, and a size that most such models take.
_BY_NAME = (
    (re.compile(r"past", re.I), 16),
    (re.compile(r"sample|audio|wave|pcm", re.I), 16_000),
    (re.compile(r"seq|len|token|time|frame|step|word|text", re.I), 128),
    (re.compile(r"height|width|size|image", re.I), 224),
    (re.compile(r"chan|depth", re.I), 3),
)
_UNKNOWN, _PICTURE = 16, 224


@dataclass(frozen=True, slots=True)
class Sizes:
    """The shape of one sample of each input; ``batched`` where the batch is no part of it.

    ``dims`` are the sizes that open dimensions got; ``proposed`` names those nobody had set.
    """

    shapes: Mapping[str, tuple[int, ...]]
    batched: bool
    dims: Mapping[str, int]
    proposed: frozenset[str]

    @property
    def whole(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the inputs of one sample, its batch of one with them."""
        return {name: (1, *shape) if self.batched else shape for name, shape in self.shapes.items()}

    def __str__(self) -> str:
        return ", ".join(
            f"{name}={size}" + (" (proposed)" if name in self.proposed else "")
            for name, size in self.dims.items()
        )


def open_dims(inputs: Sequence[TensorSpec]) -> dict[str, tuple[TensorSpec, int]]:
    """Every open dimension by its name, and where it is met first."""
    found: dict[str, tuple[TensorSpec, int]] = {}
    for spec in inputs:
        for axis, size in enumerate(spec.shape):
            if size is None:
                found.setdefault(spec.dimension(axis), (spec, axis))
    return found


def settle(inputs: Sequence[TensorSpec], dims: Mapping[str, int] = MappingProxyType({})) -> Sizes:
    """The sizes of one sample; :class:`UsageError` where ``dims`` names none of the model's open
    dimensions, or a sample would be too large to make."""
    there = open_dims(inputs)
    unknown = sorted(set(dims) - set(there))
    if unknown:
        known = ", ".join(there) or "none"
        raise UsageError(f"dims.{unknown[0]}: no open dimension of the model; it has {known}")
    batched = _is_batched(inputs, dims)
    found: dict[str, int] = {}
    for name, (spec, axis) in there.items():
        if not (batched and axis == 0):
            found[name] = dims.get(name) or propose(name, spec, axis)
    shapes = {
        spec.name: tuple(
            found[spec.dimension(axis)] if size is None else size
            for axis, size in enumerate(spec.shape)
            if not (batched and axis == 0)
        )
        for spec in inputs
    }
    _refuse_giants(inputs, shapes)
    return Sizes(shapes, batched, found, frozenset(set(found) - set(dims)))


def propose(name: str, spec: TensorSpec, axis: int) -> int:
    """A size to begin with: by the dimension's name, else by where it stands."""
    if axis == 0 and _BATCH.match(_own_name(spec, axis)):
        return 1
    for pattern, size in _BY_NAME:
        if pattern.search(name):
            return size
    if _own_name(spec, axis).lower().startswith("batch"):
        return 1
    if len(spec.shape) == 4 and spec.dtype in ("float32", "float16", "uint8", "int8"):
        return _PICTURE
    return _UNKNOWN


def _own_name(spec: TensorSpec, axis: int) -> str:
    return spec.symbols[axis] if spec.symbols else ""


def _is_batched(inputs: Sequence[TensorSpec], dims: Mapping[str, int]) -> bool:
    if not inputs or not all(spec.shape for spec in inputs):
        return False
    if any(spec.shape[0] not in (None, 1) for spec in inputs):
        return False
    first = [spec for spec in inputs if spec.shape[0] is None]
    if first and len(first) != len(inputs):
        return False
    names = {_own_name(spec, 0) for spec in first}
    inside = {name for spec in inputs for name in spec.symbols[1:] if name}
    set_by_hand = any(spec.dimension(0) in dims for spec in first)
    return (
        len(names) <= 1
        and all(_BATCH.match(name) for name in names)
        and not names & inside
        and not set_by_hand
    )


def _refuse_giants(inputs: Sequence[TensorSpec], shapes: Mapping[str, tuple[int, ...]]) -> None:
    for spec in inputs:
        elements = 1
        for size in shapes[spec.name]:
            elements *= size
        if elements > MAX_SAMPLE_ELEMENTS:
            raise UsageError(
                f"one sample of input {spec} would have {elements} values: set smaller dims"
            )
