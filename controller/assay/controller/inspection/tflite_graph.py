"""Reads the cost of a .tflite graph, with the schema that ships with LiteRT."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from assay.controller.inspection.graph_cost import GraphCost
from assay.core.errors import BadInputs, RuntimeAbsent

_IDENTIFIER = b"TFL3"
_NO_RULE = {
    "BIDIRECTIONAL_SEQUENCE_LSTM",
    "BIDIRECTIONAL_SEQUENCE_RNN",
    "CALL",
    "CONV_3D",
    "CONV_3D_TRANSPOSE",
    "CUSTOM",
    "IF",
    "LSTM",
    "RNN",
    "SVDF",
    "UNIDIRECTIONAL_SEQUENCE_LSTM",
    "UNIDIRECTIONAL_SEQUENCE_RNN",
    "WHILE",
}


def read(data: bytes) -> GraphCost:
    """The cost of the graph in ``data``; :class:`BadInputs` if it is no .tflite file."""
    if data[4:8] != _IDENTIFIER:
        raise BadInputs(f"not a .tflite file: it lacks the mark {_IDENTIFIER.decode()}")
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise RuntimeAbsent(
            f"reading .tflite files needs ai-edge-litert ({error}): pip install "
            "'assay-fleet[litert]'"
        ) from error
    try:
        model = schema.ModelT.InitFromPackedBuf(bytearray(data))
        return _cost(model, schema)
    except (struct.error, IndexError, TypeError, ValueError) as error:
        raise BadInputs(f"damaged .tflite file: {error}") from error


def _cost(model: Any, schema: Any) -> GraphCost:
    graph = model.subgraphs[0]
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    operators = [names[_builtin(model.operatorCodes[op.opcodeIndex])] for op in graph.operators]
    macs: list[int | None] = []
    for name, op in zip(operators, graph.operators, strict=True):
        macs.append(_macs(name, op, graph.tensors))
    return GraphCost(
        parameters=_parameters(model, graph, operators, schema),
        macs=None if None in macs else sum(m for m in macs if m is not None),
        operators=tuple(operators),
        precision=_precision(model, graph, operators, schema),
    )


def _builtin(code: Any) -> int:
    """Old files keep the code in one byte, newer ones beyond 127 in the other field."""
    return max(int(code.deprecatedBuiltinCode), int(code.builtinCode))


def _macs(name: str, op: Any, tensors: Any) -> int | None:
    rule = _RULES.get(name)
    if rule is None:
        return None if name in _NO_RULE or name.startswith("STABLEHLO") else 0
    inputs = [shape_of(tensors[i]) if i >= 0 else () for i in op.inputs]
    return rule(inputs, shape_of(tensors[op.outputs[0]]), op)


def shape_of(tensor: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in tensor.shape) if tensor.shape is not None else ()


def _convolution(inputs: list[tuple[int, ...]], out: tuple[int, ...], _op: Any) -> int:
    return math.prod(out) * math.prod(inputs[1][1:])  # weights (out, h, w, in)


def _depthwise(inputs: list[tuple[int, ...]], out: tuple[int, ...], _op: Any) -> int:
    return math.prod(out) * math.prod(inputs[1][1:3])  # weights (1, h, w, out)


def _dense(inputs: list[tuple[int, ...]], out: tuple[int, ...], _op: Any) -> int:
    return math.prod(out) * inputs[1][-1]


def _transposed(inputs: list[tuple[int, ...]], _out: tuple[int, ...], _op: Any) -> int:
    return math.prod(inputs[2]) * math.prod(inputs[1][:3])  # weights (out, h, w, in)


def _product(inputs: list[tuple[int, ...]], out: tuple[int, ...], op: Any) -> int:
    return math.prod(out) * inputs[0][-2 if op.builtinOptions.adjX else -1]


_RULES: Mapping[str, Callable[[list[tuple[int, ...]], tuple[int, ...], Any], int]] = {
    "BATCH_MATMUL": _product,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _dense,
    "TRANSPOSE_CONV": _transposed,
}


def constants(model: Any, graph: Any) -> Iterator[int]:
    """Indices of tensors whose content is stored in the file."""
    for index, tensor in enumerate(graph.tensors):
        stored = model.buffers[tensor.buffer]
        if (stored.data is not None and len(stored.data)) or stored.offset > 1:
            yield index


def _parameters(model: Any, graph: Any, operators: list[str], schema: Any) -> int:
    """Elements of stored weights and biases: no shapes, paddings or axes (int32 elsewhere)."""
    biases = {
        op.inputs[2]
        for name, op in zip(operators, graph.operators, strict=True)
        if name in _RULES and name != "TRANSPOSE_CONV" and len(op.inputs) > 2
    }
    types = schema.TensorType
    integers = (types.INT32, types.INT64, types.BOOL, types.STRING)
    return sum(
        math.prod(shape_of(graph.tensors[i]))
        for i in constants(model, graph)
        if i in biases or graph.tensors[i].type not in integers
    )


def _precision(model: Any, graph: Any, operators: list[str], schema: Any) -> str:
    stored = set(constants(model, graph))
    weights = {
        graph.tensors[op.inputs[1]].type
        for name, op in zip(operators, graph.operators, strict=True)
        if name in _RULES and len(op.inputs) > 1 and op.inputs[1] in stored
    }
    if weights & {schema.TensorType.INT8, schema.TensorType.UINT8, schema.TensorType.INT4}:
        return "int8"
    halves = any(graph.tensors[i].type == schema.TensorType.FLOAT16 for i in stored)
    return "fp16" if halves else "fp32"
