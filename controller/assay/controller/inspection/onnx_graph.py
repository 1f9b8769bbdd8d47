"""Reads the cost of an ONNX graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from assay.controller.inspection.graph_cost import GraphCost
from assay.core.errors import BadInputs, RuntimeAbsent

Shape = tuple[int, ...]

_STANDARD = ("", "ai.onnx")
_INTEGER = {
    "ConvInteger",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "MatMulInteger",
    "QLinearConv",
    "QLinearMatMul",
    "QuantizeLinear",
}
# Operators that carry weight and have no rule below; so has everything of another domain.
_NO_RULE = {
    *{"Attention", "DeformConv", "Einsum", "GRU", "If", "LSTM", "Loop", "RNN", "Scan"},
    *{"LinearAttention", "CausalConvWithState"},
}
# Of onnxruntime's own operators, those that carry none.
_LIGHT = {"BiasGelu", "DequantizeLinear", "FastGelu", "Gelu", "NhwcMaxPool", "QuantizeLinear"}
_NARROWEST = ("int8", "fp16", "fp32")
# Which inputs are scales and zero points rather than parameters.
_QUANTISATION_INPUTS = {
    "ConvInteger": (2, 3),
    "DequantizeLinear": (1, 2),
    "MatMulInteger": (2, 3),
    "QLinearAdd": (1, 2, 4, 5, 6, 7),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "QGemm": (1, 2, 4, 5, 7, 8),
    "QuantizeLinear": (1, 2),
}


def read(data: bytes, shapes: Mapping[str, Shape] = MappingProxyType({})) -> GraphCost:
    """The cost of the graph in ``data`` for inputs of these ``shapes``, else for one sample;
    :class:`BadInputs` if it is no ONNX file."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise RuntimeAbsent(
            f"reading ONNX files needs the package onnx ({error}): pip install "
            "'assay-fleet[variants]'"
        ) from error
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise BadInputs(f"not an ONNX file: {error}") from error
    graph = _with_shapes(model, shapes).graph
    inferred = _shapes(graph)
    macs = [_macs(node, inferred) for node in graph.node]
    all_graphs = list(graphs_of(graph))
    return GraphCost(
        parameters=sum(_parameters(one) for one in all_graphs),
        macs=None if None in macs else sum(m for m in macs if m is not None),
        operators=tuple(name_of(node) for one in all_graphs for node in one.node),
        precision=min((_precision(one) for one in all_graphs), key=_NARROWEST.index),
    )


def graphs_of(graph: Any) -> Iterator[Any]:
    """The graph and those inside it, the branches of an If and the bodies of loops."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from graphs_of(inner)


def _with_shapes(model: Any, shapes: Mapping[str, Shape]) -> Any:
    """The model with shapes for one sample: the first dimension of every input is the batch, where
    ``shapes`` do not say otherwise."""
    import onnx

    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    weights = {tensor.name for tensor in fixed.graph.initializer}
    for value in fixed.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name in shapes:
            for dim, size in zip(dims, shapes[value.name], strict=True):
                dim.dim_value = size
        elif value.name not in weights and dims and not dims[0].HasField("dim_value"):
            dims[0].dim_value = 1
    del fixed.graph.value_info[:]
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        return onnx.shape_inference.infer_shapes(fixed, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        # A model may be odd, or too large for this; what it costs is then not known.
        return fixed


def _shapes(graph: Any) -> dict[str, Shape]:
    found: dict[str, Shape] = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        dims = tensor.shape.dim
        if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            found[value.name] = tuple(dim.dim_value for dim in dims)
    for tensor in graph.initializer:
        found[tensor.name] = tuple(tensor.dims)
    return found


def _macs(node: Any, shapes: Mapping[str, Shape]) -> int | None:
    """MACs of one node, 0 for those that carry no weight, None where there is no rule."""
    rule = _RULES.get(node.op_type)
    if rule is None:
        light = node.op_type in _LIGHT if node.domain not in _STANDARD else True
        return None if node.op_type in _NO_RULE or not light else 0
    try:
        return rule(node, shapes)
    except (KeyError, IndexError):
        return None  # a shape depends on the data


def _convolution(weight: int) -> Callable[[Any, Mapping[str, Shape]], int]:
    def macs(node: Any, shapes: Mapping[str, Shape]) -> int:
        return math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[weight]][1:])

    return macs


def _transposed(node: Any, shapes: Mapping[str, Shape]) -> int:
    return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])


def _product(node: Any, shapes: Mapping[str, Shape]) -> int:
    return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]


def _gemm(node: Any, shapes: Mapping[str, Shape]) -> int:
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if transposed else -1]


_RULES: Mapping[str, Callable[[Any, Mapping[str, Shape]], int]] = {
    "Conv": _convolution(1),
    "ConvInteger": _convolution(1),
    "ConvTranspose": _transposed,
    "FusedConv": _convolution(1),
    "FusedMatMul": _product,
    "Gemm": _gemm,
    "MatMul": _product,
    "MatMulInteger": _product,
    "QGemm": _gemm,
    "QLinearConv": _convolution(3),
    "QLinearMatMul": _product,
}


def _parameters(graph: Any) -> int:
    """Elements of the stored weights and biases: no scales, zero points, shapes or indices."""
    import onnx

    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    tensors[node.output[0]] = attribute.t
    aside = {
        name
        for node in graph.node
        for position, name in enumerate(node.input)
        if position in _QUANTISATION_INPUTS.get(node.op_type, ())
    }
    indices = (onnx.TensorProto.INT64, onnx.TensorProto.BOOL, onnx.TensorProto.STRING)
    return sum(
        math.prod(tensor.dims)
        for name, tensor in tensors.items()
        if name not in aside and tensor.data_type not in indices
    )


def _precision(graph: Any) -> str:
    import onnx

    if any(node.op_type in _INTEGER for node in graph.node):
        return "int8"
    halves = any(t.data_type == onnx.TensorProto.FLOAT16 for t in graph.initializer)
    return "fp16" if halves else "fp32"


def name_of(node: Any) -> str:
    return str(node.op_type if node.domain in _STANDARD else f"{node.domain}.{node.op_type}")
