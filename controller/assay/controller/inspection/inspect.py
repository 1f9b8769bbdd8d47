"""What a file costs before it ever runs.

Multiply-accumulates (MACs) are counted for one sample from the graph with inferred shapes, over the
operators that carry weight: convolutions, dense layers and matrix products in their float, integer
and quantised forms. Element-wise work is not counted, as is usual. Where a file holds an operator
of weight that has no rule here, MACs are None rather than too small.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from assay.controller.inspection import ncnn_graph as inspect_ncnn
from assay.controller.inspection import onnx_graph as inspect_onnx
from assay.controller.inspection import tflite_graph as inspect_tflite
from assay.controller.inspection.graph_cost import GraphCost
from assay.controller.records import StaticCost
from assay.core.errors import UsageError
from assay.core.model import MEDIA_NCNN, MEDIA_ONNX, MEDIA_TFLITE

_ZSTD_LEVEL = 3
_CHUNK_BYTES = 1 << 20
_READERS: Mapping[str, Callable[[bytes], GraphCost]] = {
    MEDIA_ONNX: inspect_onnx.read,
    MEDIA_TFLITE: inspect_tflite.read,
    MEDIA_NCNN: inspect_ncnn.read,
}


def static_cost(path: Path, media_type: str, sent: Path | None = None) -> StaticCost:
    """Parameters, MACs, bytes and operators of a model file; ``sent`` is what travels, where that
    is another file."""
    data = path.read_bytes()
    if media_type not in _READERS:
        raise UsageError(f"{path}: there are no rules to inspect {media_type}")
    graph = _READERS[media_type](data)
    return StaticCost(
        parameters=graph.parameters,
        macs=graph.macs,
        file_bytes=(sent or path).stat().st_size,
        transfer_bytes=transfer_bytes(data) if sent is None else _streamed_bytes(sent),
        operators=dict(sorted(Counter(graph.operators).items())),
    )


def macs_at(path: Path, media_type: str, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """The MACs of a file for inputs of these shapes; only ONNX files are counted anew."""
    data = path.read_bytes()
    if media_type == MEDIA_ONNX:
        return inspect_onnx.read(data, shapes).macs
    return _READERS[media_type](data).macs


def precision(path: Path, media_type: str) -> str:
    """fp32, fp16 or int8: the narrowest arithmetic the file holds."""
    data = path.read_bytes()
    return _READERS[media_type](data).precision


def transfer_bytes(data: bytes) -> int:
    """Bytes on the wire: zstd at level 3, as artifacts are sent."""
    import sys

    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    return len(zstd.compress(data, level=_ZSTD_LEVEL))


def _streamed_bytes(path: Path) -> int:
    """The same for a file that may be larger than memory."""
    import sys

    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    compressor = zstd.ZstdCompressor(level=_ZSTD_LEVEL)
    total = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            total += len(compressor.compress(chunk))
    return total + len(compressor.flush())
