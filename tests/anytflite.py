"""Models as .tflite files, written with the schema's own classes: more than converters give."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.conftest import need


def mixing(path: Path, *, quantised: bool = False, open_batch: bool = False) -> Path:
    """A .tflite of two operators, two inputs and two outputs: total = state + step, size = |total|
    (float32 only), with a signature ``serve`` and some metadata."""
    need(module="ai_edge_litert")
    from ai_edge_litert import schema_py_generated as schema

    model, graph = schema.ModelT(), schema.SubGraphT()
    names = ["state", "step", "total", "size"]
    graph.tensors = [_tensor(schema, name, quantised, open_batch) for name in names]
    operators = ["ADD"] if quantised else ["ADD", "ABS"]
    model.operatorCodes = [_code(schema, name, 2 if quantised else 1) for name in operators]
    add = _operator(schema, 0, [0, 1], [2])
    add.builtinOptionsType = schema.BuiltinOptions.AddOptions
    add.builtinOptions = schema.AddOptionsT()
    graph.operators = [add] if quantised else [add, _operator(schema, 1, [2], [3])]
    graph.inputs, graph.outputs = [0, 1], [2] if quantised else [2, 3]
    graph.tensors = graph.tensors[: 3 if quantised else 4]
    model.version, model.subgraphs = 3, [graph]
    model.buffers = [schema.BufferT(), schema.BufferT()]
    model.buffers[1].data = np.frombuffer(b"made for tests", dtype=np.uint8)
    note = schema.MetadataT()
    note.name, note.buffer = b"about", 1
    model.metadata = [note]
    model.description = b"adds up"
    model.signatureDefs = [signature(schema, b"serve", 0, graph)]
    return saved(model, path)


def pairing(path: Path) -> Path:
    """A .tflite whose batch is open, 1 in the file, and runs with no other size than 2."""
    need(module="ai_edge_litert")
    from ai_edge_litert import schema_py_generated as schema

    model, graph = schema.ModelT(), schema.SubGraphT()
    graph.tensors = [_tensor(schema, name, False, True) for name in ("x", "y")]
    reshape = _operator(schema, 0, [0], [1])
    reshape.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
    reshape.builtinOptions = schema.ReshapeOptionsT()
    reshape.builtinOptions.newShape = [2, 8]
    graph.operators, graph.inputs, graph.outputs = [reshape], [0], [1]
    model.operatorCodes = [_code(schema, "RESHAPE", 1)]
    model.version, model.subgraphs, model.buffers = 3, [graph], [schema.BufferT()]
    return saved(model, path)


def accumulating(path: Path) -> Path:
    """A .tflite that adds x to a sum it keeps inside, from call to call."""
    need(module="ai_edge_litert")
    from ai_edge_litert import schema_py_generated as schema

    model, main, init = schema.ModelT(), schema.SubGraphT(), schema.SubGraphT()
    names = ("VAR_HANDLE", "READ_VARIABLE", "ADD", "ASSIGN_VARIABLE", "CALL_ONCE")
    model.operatorCodes = [_code(schema, name, 1) for name in names]

    def step(
        code: int, kind: str, inputs: Sequence[int], outputs: Sequence[int], **keys: Any
    ) -> Any:
        made = _operator(schema, code, inputs, outputs)
        made.builtinOptionsType = getattr(schema.BuiltinOptions, f"{kind}Options")
        made.builtinOptions = getattr(schema, f"{kind}OptionsT")()
        for key, value in keys.items():
            setattr(made.builtinOptions, key, value)
        return made

    def handle() -> Any:
        made = _tensor(schema, "handle", False, False)
        made.type, made.shape = schema.TensorType.RESOURCE, []
        return made

    names_inside = {"container": b"", "sharedName": b"sum"}
    main.tensors = [handle(), *(_tensor(schema, name, False, False) for name in ("x", "was", "y"))]
    main.operators = [
        step(4, "CallOnce", [], [], initSubgraphIndex=1),
        step(0, "VarHandle", [], [0], **names_inside),
        step(1, "ReadVariable", [0], [2]),
        step(2, "Add", [2, 1], [3]),
        step(3, "AssignVariable", [0, 3], []),
    ]
    main.inputs, main.outputs = [1], [3]
    init.tensors = [handle(), _tensor(schema, "zero", False, False)]
    init.tensors[1].buffer = 1
    init.operators = [
        step(0, "VarHandle", [], [0], **names_inside),
        step(3, "AssignVariable", [0, 1], []),
    ]
    init.inputs, init.outputs = [], []
    model.version, model.subgraphs = 3, [main, init]
    model.buffers = [schema.BufferT(), schema.BufferT()]
    model.buffers[1].data = np.zeros(32, dtype=np.uint8)
    return saved(model, path)


def saved(model: Any, path: Path) -> Path:
    """Packs ``model`` into the file."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def _tensor(schema: Any, name: str, quantised: bool, open_batch: bool) -> Any:
    made = schema.TensorT()
    made.name, made.shape, made.buffer = name.encode(), [1, 8], 0
    made.type = schema.TensorType.INT8 if quantised else schema.TensorType.FLOAT32
    if open_batch:
        made.shapeSignature = [-1, 8]
    if quantised:
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale, made.quantization.zeroPoint = [0.05], [-3]
    return made


def _code(schema: Any, name: str, version: int) -> Any:
    made = schema.OperatorCodeT()
    made.builtinCode = getattr(schema.BuiltinOperator, name)
    made.deprecatedBuiltinCode, made.version = min(made.builtinCode, 127), version
    return made


def _operator(schema: Any, code: int, inputs: Sequence[int], outputs: Sequence[int]) -> Any:
    made = schema.OperatorT()
    made.opcodeIndex, made.inputs, made.outputs = code, list(inputs), list(outputs)
    return made


def signature(schema: Any, key: bytes, at: int, graph: Any) -> Any:
    """The signature ``key`` of ``graph``, which is the subgraph ``at``."""
    made = schema.SignatureDefT()
    made.signatureKey, made.subgraphIndex = key, at
    made.inputs = [_named(schema, f"arg{i}", index) for i, index in enumerate(graph.inputs)]
    made.outputs = [_named(schema, f"res{i}", index) for i, index in enumerate(graph.outputs)]
    return made


def _named(schema: Any, name: str, index: int) -> Any:
    made = schema.TensorMapT()
    made.name, made.tensorIndex = name.encode(), index
    return made
