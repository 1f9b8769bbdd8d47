"""Which runtime runs which kind of file: the one table that both sides read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from assay.core.model.artifact import MEDIA_NCNN, MEDIA_ONNX, MEDIA_TFLITE, MEDIA_TORCH


@dataclass(frozen=True, slots=True)
class Format:
    """``runtime`` runs files that end in ``suffix``. ``swept``: sweep files may name it, because
    the controller reads such files and has a canary of that kind. ``rests``: its idle threads can
    be told not to spin."""

    runtime: str
    media_type: str
    suffix: str
    swept: bool = True
    rests: bool = False


FORMATS = (
    Format("onnxruntime", MEDIA_ONNX, ".onnx", rests=True),
    Format("litert", MEDIA_TFLITE, ".tflite"),
    Format("ncnn", MEDIA_NCNN, ".ncnn", rests=True),
    Format("torch", MEDIA_TORCH, ".pt2", swept=False),
)

MEDIA_BY_SUFFIX: Mapping[str, str] = MappingProxyType({f.suffix: f.media_type for f in FORMATS})
MEDIA_BY_RUNTIME: Mapping[str, str] = MappingProxyType({f.runtime: f.media_type for f in FORMATS})
