"""A .tflite file in plain LiteRT; see :mod:`assay.controller.inspection.reference`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.controller.inspection.reference import check_feed, refusal
from assay.core.errors import RuntimeAbsent, RuntimeRejected
from assay.core.tensors import TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from assay.controller.inspection.reference import Feed

_REFUSALS = (ValueError, RuntimeError, TypeError, MemoryError)


class TfliteReference:
    """An interpreter on one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._interpreter = _interpreter_class()(model_path=str(path), num_threads=1)
            allocated = self._allocate()
        except _REFUSALS as error:
            raise refusal(
                f"LiteRT refuses {path.name}, which may be cut off or no .tflite file", error
            ) from error
        self._details = self._interpreter.get_input_details()
        shapes = {d["name"]: tuple(int(s) for s in d["shape"]) for d in self._details}
        # Empty until tensors are allocated.
        self._shapes = shapes if allocated else {}
        self.inputs = tuple(_spec(path, detail) for detail in self._details)
        self.outputs = tuple(
            _spec(path, detail) for detail in self._interpreter.get_output_details()
        )

    def run(self, feed: Feed) -> list[NDArray[Any]]:
        """The outputs for one value of each input; open dimensions take the values' sizes."""
        check_feed(self._path, self.inputs, feed)
        interpreter = self._interpreter
        try:
            self._resize({name: array.shape for name, array in feed.items()})
            for detail in self._details:
                interpreter.set_tensor(detail["index"], feed[detail["name"]])
            interpreter.invoke()
            details = interpreter.get_output_details()
            return [interpreter.get_tensor(detail["index"]) for detail in details]
        except _REFUSALS as error:
            raise refusal(f"LiteRT cannot run {self._path.name}", error) from error

    def _allocate(self) -> bool:
        """False where that has to wait for inputs: files give open dimensions the size 1, which
        some models cannot compute."""
        try:
            self._interpreter.allocate_tensors()
        except RuntimeError:
            details = self._interpreter.get_input_details()
            if not any(-1 in detail.get("shape_signature", ()) for detail in details):
                raise
            return False
        return True

    def _resize(self, shapes: dict[str, tuple[int, ...]]) -> None:
        if shapes == self._shapes:
            return
        for detail in self._details:
            name = detail["name"]
            if shapes[name] != self._shapes.get(name):
                self._interpreter.resize_tensor_input(detail["index"], shapes[name], strict=True)
        self._interpreter.allocate_tensors()
        self._shapes = shapes


def _spec(path: Path, detail: dict[str, Any]) -> TensorSpec:
    import numpy as np

    dtype = np.dtype(detail["dtype"])
    if dtype.kind not in "biuf":
        raise RuntimeRejected(
            f"{path.name}: {detail['name']} holds {dtype.name}: only numbers are measured"
        )
    stated = detail.get("shape_signature")
    shape = detail["shape"] if stated is None or not len(stated) else stated
    scales = detail["quantization_parameters"]["scales"]
    points = detail["quantization_parameters"]["zero_points"]
    quantised = len(scales) == 1 and dtype.kind in "iu"
    return TensorSpec(
        detail["name"],
        dtype.name,
        tuple(int(size) if size >= 0 else None for size in shape),
        ("",) * len(shape),
        float(scales[0]) if quantised else 0.0,
        int(points[0]) if quantised else 0,
    )


def _interpreter_class() -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        try:
            from tflite_runtime.interpreter import Interpreter
        except ImportError as error:
            raise RuntimeAbsent(
                f"LiteRT is not usable here ({error}): pip install 'assay-fleet[litert]'"
            ) from error
    return Interpreter
