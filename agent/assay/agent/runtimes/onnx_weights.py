"""In which precision an ONNX file keeps its weights, without the onnx package.

Walks the protobuf wire format of ``ModelProto.graph.initializer`` (onnx.proto: graph = 7,
initializer = 5, TensorProto.dims = 1, data_type = 2) and skips the data itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

_GRAPH, _INITIALIZER, _DIMS, _DATA_TYPE = 7, 5, 1, 2
_NAMES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    16: "bfloat16",
    17: "float8",
    21: "uint4",
    22: "int4",
}


def weight_precision(model: bytes) -> str:
    """The type that most elements of the initialisers have, e.g. ``int8``; empty if there are
    none or the bytes cannot be read."""
    elements: Counter[int] = Counter()
    try:
        for graph in _parts(memoryview(model), _GRAPH):
            for tensor in _parts(graph, _INITIALIZER):
                kind, size = _tensor(tensor)
                elements[kind] += size
    except (IndexError, ValueError):
        return ""
    if not elements:
        return ""
    kind, _ = elements.most_common(1)[0]
    return _NAMES.get(kind, f"type {kind}")


def _tensor(tensor: memoryview) -> tuple[int, int]:
    kind, size = 0, 1
    for field, value in _fields(tensor):
        if field == _DATA_TYPE and isinstance(value, int):
            kind = value
        elif field == _DIMS:
            for dim in [value] if isinstance(value, int) else _packed(value):
                size *= dim
    return kind, size


def _parts(message: memoryview, wanted: int) -> Iterator[memoryview]:
    for field, value in _fields(message):
        if field == wanted and isinstance(value, memoryview):
            yield value


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
        elif wire == 2:
            size, at = _varint(message, at)
            if at + size > len(message):
                raise ValueError("a field ends beyond its message")
            yield key >> 3, message[at : at + size]
            at += size
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")


def _packed(values: memoryview) -> Iterator[int]:
    at = 0
    while at < len(values):
        value, at = _varint(values, at)
        yield value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
