"""Golden outputs: what a file gave in the reference run on the controller.

The reference is the same artifact in the plain CPU build of its runtime, one thread, one sample at
a time. A device whose outputs lie outside the tolerance runs something else than what was built,
and never ranks. The tolerances say how far two right implementations of the same file may differ
(:func:`tolerance`).

The functions here load models into the calling process: call them in a process of their own for
files nobody has checked, since a damaged model can take its runtime down with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.controller.inspection import ncnn_reference
from assay.core.errors import BadInputs, RuntimeAbsent, RuntimeRejected, UsageError
from assay.core.model import MEDIA_NCNN, MEDIA_ONNX, MEDIA_TFLITE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLES = 16

Runner = Callable[["NDArray[np.float32]"], "list[NDArray[Any]]"]
"""Model inputs (N, ...) float32 → one float32 array (N, ...) per output."""

_REFERENCES = {
    MEDIA_ONNX: ("onnxruntime",),
    MEDIA_TFLITE: ("ai-edge-litert", "tflite-runtime"),
    MEDIA_NCNN: ("ncnn",),
}
# (rtol, atol as a share of the largest golden output)
_TOLERANCES = {
    "fp32": (1e-3, 1e-4),
    "fp16": (1e-2, 1e-2),
    "int8-safe": (0.0, 0.05),
    "int8": (0.0, 0.25),
}


def tolerance(arithmetic: str, outputs: Sequence[NDArray[Any]]) -> tuple[float, float]:
    """(rtol, atol) for ``|device - golden| <= atol + rtol * |golden|``; atol in output units.

    - ``fp32``: kernels add in another order, with or without fused multiply-add. Seen between
      LiteRT's three kernel sets on ResNet-8: 5e-7 of the largest output. 1e-4 leaves room for deep
      networks and is far below what a wrong weight does.
    - ``fp16``: CPUs without half kernels compute in float32, others round every sum to 11 bits.
    - ``int8-safe``: requantisation rounds in different places, and one step in an early layer
      spreads. Seen: 6e-3 between kernel sets and graph optimisation levels.
    - ``int8``: the same file can mean other arithmetic: u8 × s8 kernels without VNNI add pairs of
      products in 16 bits and saturate. Seen on one CPU between saturating and exact kernels: 0.18.
      A quarter of the range still tells a wrong file, layout or preprocessing from the right one;
      accuracy, measured on the device, tells the rest.
    """
    rtol, share = _TOLERANCES[arithmetic]
    largest = max((float(abs(output).max()) for output in outputs if output.size), default=0.0)
    return rtol, share * (largest or 1.0)


def reference_version(media_type: str) -> str:
    """Name and version of the reference runtime, for people."""
    for name in _REFERENCES[media_type]:
        try:
            return f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
    return ""


def reference_runner(path: Path, media_type: str) -> Runner:
    """The file loaded into its reference runtime.

    :class:`RuntimeAbsent` where that is not installed, :class:`RuntimeRejected` where it refuses
    the file. The runner raises :class:`BadInputs` where samples do not fit the model.
    """
    if media_type == MEDIA_ONNX:
        return _onnx_runner(path)
    if media_type == MEDIA_TFLITE:
        return _tflite_runner(path)
    if media_type == MEDIA_NCNN:
        return ncnn_reference.reference_runner(path)
    raise UsageError(f"{path}: there is no reference runtime for {media_type}")


def _onnx_runner(path: Path) -> Runner:
    import numpy as np

    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as refusals
    except ImportError as error:
        raise RuntimeAbsent(
            f"onnxruntime is not usable here ({error}): pip install 'assay-fleet[onnxruntime]'"
        ) from error
    refused = (
        refusals.Fail,
        refusals.InvalidArgument,
        refusals.InvalidGraph,
        refusals.InvalidProtobuf,
        refusals.NotImplemented,
        refusals.RuntimeException,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except refused as error:
        raise RuntimeRejected(
            f"onnxruntime refuses {path.name}, which may be cut off or no ONNX file: "
            f"{_first_line(error)}"
        ) from error
    declared = session.get_inputs()
    _require_one_input(path, [entry.name for entry in declared])
    if declared[0].type != "tensor(float)":
        raise BadInputs(f"{path.name}: its input is {declared[0].type}, float32 is needed")
    shape = [size if isinstance(size, int) else None for size in declared[0].shape]

    def run(x: NDArray[np.float32]) -> list[NDArray[Any]]:
        _require_fit(path, shape, x)
        try:
            rows = [session.run(None, {declared[0].name: x[i : i + 1]}) for i in range(len(x))]
        except refused as error:
            raise RuntimeRejected(
                f"onnxruntime cannot run {path.name}: {_first_line(error)}"
            ) from (error)
        return [np.concatenate(parts).astype(np.float32) for parts in zip(*rows, strict=True)]

    return run


def _tflite_runner(path: Path) -> Runner:
    import numpy as np

    interpreter_class = _interpreter_class()
    try:
        interpreter = interpreter_class(model_path=str(path), num_threads=1)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise RuntimeRejected(
            f"LiteRT refuses {path.name}, which may be cut off or no .tflite file: "
            f"{_first_line(error)}"
        ) from error
    declared = interpreter.get_input_details()
    _require_one_input(path, [entry["name"] for entry in declared])
    entry, outputs = declared[0], interpreter.get_output_details()
    shape = [int(size) for size in entry["shape"]]

    def run(x: NDArray[np.float32]) -> list[NDArray[Any]]:
        _require_fit(path, shape, x)
        rows = []
        for i in range(len(x)):
            interpreter.set_tensor(entry["index"], _quantised(x[i : i + 1], entry))
            interpreter.invoke()
            rows.append([_dequantised(interpreter.get_tensor(o["index"]), o) for o in outputs])
        return [np.concatenate(parts) for parts in zip(*rows, strict=True)]

    return run


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


def _quantised(x: NDArray[np.float32], details: dict[str, Any]) -> NDArray[Any]:
    """``x`` as the input's type; int8 models take int8 inputs."""
    import numpy as np

    dtype = np.dtype(details["dtype"])
    if dtype.kind == "f":
        return x.astype(dtype)
    scale, zero_point = details["quantization"]
    limits = np.iinfo(dtype)
    steps = np.rint(x / np.float32(scale or 1.0)) + zero_point
    clipped: NDArray[Any] = np.clip(steps, limits.min, limits.max).astype(dtype)
    return clipped


def _dequantised(y: NDArray[Any], details: dict[str, Any]) -> NDArray[np.float32]:
    import numpy as np

    if y.dtype.kind == "f":
        return y.astype(np.float32)
    scale, zero_point = details["quantization"]
    return (y.astype(np.float32) - np.float32(zero_point)) * np.float32(scale or 1.0)


def _require_one_input(path: Path, names: Sequence[str]) -> None:
    if len(names) != 1:
        raise BadInputs(f"{path.name}: it has {len(names)} inputs ({', '.join(names)}), not one")


def _require_fit(path: Path, shape: Sequence[int | None], x: NDArray[Any]) -> None:
    wanted = "×".join("?" if size is None else str(size) for size in shape)
    if shape and shape[0] not in (None, 1):
        raise BadInputs(
            f"{path.name}: its input is {wanted}: export it with a batch of 1 or a free one"
        )
    fits = len(shape) == x.ndim and all(
        size in (None, found) for size, found in zip(shape[1:], x.shape[1:], strict=False)
    )
    if not fits:
        given = "×".join(str(size) for size in x.shape[1:])
        raise BadInputs(
            f"{path.name}: its input is {wanted}, but samples of the dataset are {given} after "
            "preprocessing: change the dataset's preprocessing or export the model to fit"
        )


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
