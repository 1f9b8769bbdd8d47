"""An ONNX file in plain ONNX Runtime; see :mod:`assay.controller.inspection.reference`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.controller.inspection.reference import check_feed, refusal
from assay.core.errors import RuntimeAbsent, RuntimeRejected
from assay.core.tensors import STRING, TensorSpec, symbol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from assay.controller.inspection.reference import Feed

_TYPES = {"float": "float32", "double": "float64", "string": STRING, "bool": "bool"}
_NO_OPERATOR, _OPERATORS = "is not a registered function/op", "assay variant add --operators"
_SAME = ("float16", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))


class OnnxReference:
    """A session on one thread."""

    def __init__(self, path: Path, operators: str = "") -> None:
        library = _library()
        options = library.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self._path = path
        if operators:
            _register(options, operators)
        try:
            self._session = library.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        except _refusals() as error:
            why = "which may be cut off or no ONNX file"
            if _NO_OPERATOR in str(error):
                why = f"which needs a library of operators ({_OPERATORS})"
            raise refusal(f"onnxruntime refuses {path.name}, {why}", error) from error
        self.inputs = tuple(_spec(path, entry) for entry in self._session.get_inputs())
        self.outputs = tuple(_spec(path, entry) for entry in self._session.get_outputs())

    def run(self, feed: Feed) -> list[NDArray[Any]]:
        """The outputs for one value of each input."""
        check_feed(self._path, self.inputs, feed)
        try:
            found: list[NDArray[Any]] = self._session.run(None, dict(feed))
        except _refusals() as error:
            raise refusal(f"onnxruntime cannot run {self._path.name}", error) from error
        return found


def _spec(path: Path, entry: Any) -> TensorSpec:
    kind = entry.type.removeprefix("tensor(").removesuffix(")")
    dtype = kind if kind in _SAME else _TYPES.get(kind)
    if dtype is None:
        raise RuntimeRejected(
            f"{path.name}: {entry.name} is a {entry.type}: only tensors of types that numpy has "
            "are measured"
        )
    return TensorSpec(
        entry.name,
        dtype,
        tuple(size if isinstance(size, int) else None for size in entry.shape),
        tuple(symbol(size) for size in entry.shape),
    )


def _register(options: Any, operators: str) -> None:
    try:
        options.register_custom_ops_library(operators)
    except _refusals() as error:
        raise refusal(f"onnxruntime refuses the operator library {operators}", error) from error


def _library() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise RuntimeAbsent(
            f"onnxruntime is not usable here ({error}): pip install 'assay-fleet[onnxruntime]'"
        ) from error
    return onnxruntime


def _refusals() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [value for value in vars(state).values() if isinstance(value, type)]
    raised = (cls for cls in own if issubclass(cls, Exception))
    return (RuntimeError, ValueError, MemoryError, *raised)
