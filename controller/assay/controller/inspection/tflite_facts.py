"""What a .tflite file says of itself."""

from __future__ import annotations

import math
import struct
from collections import Counter
from pathlib import Path
from typing import Any

from assay.controller.inspection import tflite_graph
from assay.controller.inspection.facts import Facts, elements_by_type, shown
from assay.core.dims import open_dims, propose
from assay.core.errors import BadInputs
from assay.core.tensors import TensorSpec


def read(file: Path) -> Facts:
    """The facts; :class:`BadInputs` if it is no .tflite file."""
    data = file.read_bytes()
    cost = tflite_graph.read(data)
    from ai_edge_litert import schema_py_generated as schema

    try:
        model = schema.ModelT.InitFromPackedBuf(bytearray(data))
        return _facts(model, schema, cost)
    except (struct.error, IndexError, TypeError, ValueError, AttributeError) as error:
        raise BadInputs(f"damaged .tflite file: {error}") from error


def _facts(model: Any, schema: Any, cost: Any) -> Facts:
    graph = model.subgraphs[0]
    types = {v: k.lower() for k, v in vars(schema.TensorType).items() if isinstance(v, int)}
    inputs = [_spec(graph.tensors[i], types) for i in graph.inputs]
    outputs = [_spec(graph.tensors[i], types) for i in graph.outputs]
    stored = [
        (types[one.tensors[i].type], math.prod(tflite_graph.shape_of(one.tensors[i])))
        for one in model.subgraphs
        for i in tflite_graph.constants(model, one)
    ]
    custom = sorted({_text(code.customCode) for code in model.operatorCodes if code.customCode})
    return Facts(
        inputs=tuple(_shown(spec) for spec in inputs),
        outputs=tuple(_shown(spec) for spec in outputs),
        versions={"schema": str(model.version), "subgraphs": str(len(model.subgraphs))},
        operators=dict(sorted(Counter(cost.operators).items())),
        custom_operators=tuple(custom),
        parameters=cost.parameters,
        macs=cost.macs,
        precision=cost.precision,
        stored=elements_by_type(stored),
        dims={name: propose(name, *where) for name, where in open_dims(inputs).items()},
        signatures=tuple(_signature(one) for one in model.signatureDefs or ()),
        metadata=_metadata(model),
    )


def _spec(tensor: Any, types: dict[int, str]) -> TensorSpec:
    shape = tflite_graph.shape_of(tensor)
    stated = tensor.shapeSignature
    signed = tuple(int(size) for size in stated) if stated is not None and len(stated) else shape
    scale, zero_point = 0.0, 0
    told = tensor.quantization
    if told is not None and told.scale is not None and len(told.scale) == 1:
        scale, zero_point = float(told.scale[0]), int(told.zeroPoint[0])
    sizes = tuple(size if size >= 0 else None for size in signed)
    name = _text(tensor.name)
    return TensorSpec(name, types[tensor.type], sizes, ("",) * len(sizes), scale, zero_point)


def _shown(spec: TensorSpec) -> str:
    quantised = f" (real = {spec.scale:.6g} × (stored - {spec.zero_point}))" if spec.scale else ""
    return f"{spec}{quantised}"


def _signature(one: Any) -> str:
    ins, outs = (", ".join(_text(t.name) for t in side) for side in (one.inputs, one.outputs))
    return f"{_text(one.signatureKey)}: {ins} → {outs} (subgraph {one.subgraphIndex})"


def _metadata(model: Any) -> dict[str, str]:
    found = {"description": _text(model.description)} if model.description else {}
    for entry in model.metadata or ():
        data = model.buffers[entry.buffer].data
        content = bytes(data) if data is not None else b""
        text = content.rstrip(b"\0").decode("utf-8", "replace")
        found[_text(entry.name)] = shown(text) if text.isprintable() else f"{len(content)} bytes"
    return found


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")
