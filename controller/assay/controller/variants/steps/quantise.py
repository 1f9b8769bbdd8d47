"""Quantisation to int8 after training."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from assay.controller.variants.steps.base import FileStep, FileWork, step
from assay.core.errors import BuildFailed

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_METHODS = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}


@step("int8_dynamic", version=1, tools=("onnxruntime",))
class Int8Dynamic(FileStep):
    """int8 weights; activations are quantised while running, by the range of each input."""

    per_channel: bool = False
    reduce_range: bool = False

    def arithmetic(self, file_format: str) -> str:
        """u8 × u8 in ONNX, s8 × s8 in LiteRT: no kernel saturates."""
        return "int8-safe"

    def to_onnx(self, work: FileWork) -> None:
        """ConvInteger and MatMulInteger."""
        from onnxruntime.quantization import QuantType, quantize_dynamic

        out = work.folder / "int8-dynamic.onnx"
        # Unsigned weights: onnxruntime's ConvInteger takes no signed ones on CPU.
        quantize_dynamic(
            work.path,
            out,
            weight_type=QuantType.QUInt8,
            per_channel=self.per_channel,
            reduce_range=self.reduce_range,
        )
        work.path = out

    def to_tflite(self, work: FileWork) -> None:
        """LiteRT's hybrid kernels."""
        from ai_edge_quantizer import recipe

        work.path = _quantised_tflite(work, recipe.dynamic_wi8_afp32(), None)

    def no_tflite(self) -> str:
        """LiteRT's kernels have no reduced range."""
        return "reduce_range has no .tflite form" if self.reduce_range else ""


@step("int8_static", version=1, tools=("onnxruntime",))
class Int8Static(FileStep):
    """int8 weights and activations, by ranges seen on the calibration split (QDQ form).

    On CPUs without VNNI the u8 × s8 kernels add pairs of products in 16 bits and saturate;
    ``reduce_range`` keeps weights to 7 bits, which they cannot overflow.
    """

    activations: Literal["u8", "s8"] = "u8"
    per_channel: bool = True
    reduce_range: bool = False
    calibration: Literal["minmax", "entropy", "percentile"] = "minmax"
    samples: int = Field(default=256, ge=1, le=100_000)

    def arithmetic(self, file_format: str) -> str:
        """Whether kernels without VNNI saturate."""
        saturates = file_format == "onnx" and self.activations == "u8" and not self.reduce_range
        return "int8" if saturates else "int8-safe"

    def to_onnx(self, work: FileWork) -> None:
        """QuantizeLinear and DequantizeLinear around every operator."""
        from onnxruntime import quantization as q

        out = work.folder / "int8-static.onnx"
        q.quantize_static(
            work.path,
            out,
            _Reader(work.path, self._inputs(work)),
            quant_format=q.QuantFormat.QDQ,
            activation_type=q.QuantType.QUInt8 if self.activations == "u8" else q.QuantType.QInt8,
            weight_type=q.QuantType.QInt8,
            per_channel=self.per_channel,
            reduce_range=self.reduce_range,
            calibrate_method=q.CalibrationMethod[_METHODS[self.calibration]],
        )
        work.path = out

    def to_tflite(self, work: FileWork) -> None:
        """LiteRT's int8 scheme: inputs and outputs are int8 too."""
        from ai_edge_quantizer import recipe

        work.path = _quantised_tflite(work, recipe.static_wi8_ai8(), self._inputs(work))

    def no_tflite(self) -> str:
        """LiteRT has one scheme: s8 activations, weights per channel, ranges by min and max."""
        if self.reduce_range:
            return "reduce_range has no .tflite form"
        if not self.per_channel:
            return "per_channel = false has no .tflite form"
        return "" if self.calibration == "minmax" else "only minmax has a .tflite form"

    def _inputs(self, work: FileWork) -> NDArray[Any]:
        if work.calibration is None:
            raise BuildFailed("int8_static: the dataset has no calibration split")
        return work.calibration[: self.samples]


class _Reader:
    """Hands calibration inputs to onnxruntime, one sample at a time."""

    def __init__(self, path: Path, inputs: NDArray[Any]) -> None:
        import onnx

        name = onnx.load(path, load_external_data=False).graph.input[0].name
        self._feeds: Iterator[dict[str, NDArray[Any]]] = (
            {name: inputs[i : i + 1]} for i in range(len(inputs))
        )

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next feed, None at the end."""
        return next(self._feeds, None)


def _quantised_tflite(
    work: FileWork, scheme: list[dict[str, Any]], inputs: NDArray[Any] | None
) -> Path:
    from ai_edge_quantizer.quantizer import Quantizer

    out = work.folder / "int8.tflite"
    quantizer = Quantizer(str(work.path), scheme)
    with _quiet():
        ranges = None if inputs is None else _ranges(work.path, inputs)
        result = quantizer.quantize(ranges, enable_progress_report=False)
    result.export_model(str(out), overwrite=True)
    return out


def _ranges(path: Path, inputs: NDArray[Any]) -> Any:
    """The lowest and highest value of every tensor over all samples.

    The quantizer's own calibration takes moving averages, which cut off whatever is rare: with few
    samples of many classes, most of the logits.
    """
    from ai_edge_quantizer.calibrator import CalibrationInterpreter, CalibrationMode
    from ai_edge_quantizer.utils.qsv_utils import min_max_update

    interpreter = CalibrationInterpreter(
        str(path), CalibrationMode.CALIBRATION_PRESERVE_ALL_TENSORS, min_max_update
    )
    signature, ends = next(iter(interpreter.get_signature_list().items()))
    run = interpreter.get_signature_runner(signature)
    for i in range(len(inputs)):
        run(**{ends["inputs"][0]: inputs[i : i + 1]})
    return interpreter.get_calibration_results()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantizer draws progress bars of its own on stderr."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        yield
