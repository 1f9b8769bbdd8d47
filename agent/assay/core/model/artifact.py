"""Files named by what they contain."""

from __future__ import annotations

from dataclasses import dataclass

MEDIA_ONNX = "model/onnx"
MEDIA_TFLITE = "model/tflite"
MEDIA_NCNN = "model/ncnn"
MEDIA_TORCH = "model/torch"
MEDIA_NPZ = "application/x-npz"


@dataclass(frozen=True, slots=True)
class ArtifactRef:
    """A file by its content: ``digest`` is ``sha256:<64 hex>`` over the decoded bytes."""

    digest: str
    size_bytes: int
    media_type: str
