"""A model file in the plain CPU build of its runtime: one thread, one set of inputs at a time.

What it gives is what a device's outputs are compared with. The functions load models into the
calling process: call them in a process of their own for files nobody has checked, since a damaged
one can take its runtime down with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from assay.core.errors import AssayError, BadInputs, RuntimeRejected, UsageError, WorkerOom
from assay.core.model import MEDIA_NCNN, MEDIA_ONNX, MEDIA_TFLITE
from assay.core.tensors import TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Feed = Mapping[str, NDArray[Any]]

RUNTIMES: Mapping[str, tuple[str, ...]] = {
    MEDIA_ONNX: ("onnxruntime",),
    MEDIA_TFLITE: ("ai-edge-litert", "tflite-runtime"),
    MEDIA_NCNN: ("ncnn",),
}
"""Media type → the distributions that can be its reference, best first."""

_NO_MEMORY = re.compile(r"bad_?alloc|bad allocation|failed to allocate memory|out of memory", re.I)


class Reference(Protocol):
    """A loaded model."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, feed: Feed) -> list[NDArray[Any]]:
        """The outputs for one value of each input, in the model's order and types.
        :class:`RuntimeRejected` or :class:`WorkerOom` where the runtime fails."""
        ...


def open_reference(path: Path, media_type: str, operators: str = "") -> Reference:
    """The file loaded into its reference runtime; ``operators`` is the path of a library of its own
    operators, for ONNX.

    :class:`RuntimeAbsent` where that is not installed, :class:`RuntimeRejected` where it refuses
    the file.
    """
    if media_type == MEDIA_ONNX:
        from assay.controller.inspection.onnx_reference import OnnxReference

        return OnnxReference(path, operators)
    if media_type == MEDIA_TFLITE:
        from assay.controller.inspection.tflite_reference import TfliteReference

        return TfliteReference(path)
    raise UsageError(f"{path}: there is no reference runtime for {media_type}")


def reference_version(media_type: str) -> str:
    """Name and version of the reference runtime, for people; empty where it is not installed."""
    for name in RUNTIMES[media_type]:
        try:
            return f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
    return ""


def check_feed(path: Path, inputs: tuple[TensorSpec, ...], feed: Feed) -> None:
    """:class:`BadInputs` unless there is an array of the right rank for each input."""
    listed = ", ".join(str(spec) for spec in inputs)
    if set(feed) != {spec.name for spec in inputs}:
        raise BadInputs(f"{path.name} takes {listed}; given: {', '.join(sorted(feed))}")
    for spec in inputs:
        shape = feed[spec.name].shape
        fits = len(shape) == len(spec.shape) and all(
            wanted in (None, size) for wanted, size in zip(spec.shape, shape, strict=True)
        )
        if not fits:
            raise BadInputs(f"{path.name}: input {spec} is given values of shape {shape}")


def refusal(message: str, error: BaseException) -> AssayError:
    """What a runtime's own error means, told by its first line."""
    text = str(error).strip()
    told = f"{message}: {text.splitlines()[0] if text else type(error).__name__}"
    if isinstance(error, MemoryError) or _NO_MEMORY.search(text):
        return WorkerOom(told)
    return RuntimeRejected(told)
