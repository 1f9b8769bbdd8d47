"""Half precision: half the file, and half the memory traffic where the device has kernels."""

from __future__ import annotations

from assay.controller.variants.steps.base import FileStep, FileWork, step


@step("fp16", version=1, tools=("onnxruntime",))
class Half(FileStep):
    """Weights and arithmetic in float16; inputs and outputs stay float32.

    onnxruntime's CPU provider computes in float32 where it lacks a half kernel, so that on most
    CPUs the gain is the file's size alone.
    """

    def arithmetic(self, file_format: str) -> str:
        """Half."""
        return "fp16"

    def to_onnx(self, work: FileWork) -> None:
        """Converts the graph."""
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16

        out = work.folder / "fp16.onnx"
        onnx.save(convert_float_to_float16(onnx.load(work.path), keep_io_types=True), out)
        work.path = out

    def no_tflite(self) -> str:
        """Weights alone could be halved there, which is another thing."""
        return "fp16 has no .tflite form"
