"""Small models for the native loop, with samples that fit them, written without training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
Sample = dict[str, Array]

OPSET = 17
IR_VERSION = 8


@dataclass(frozen=True, slots=True)
class Case:
    """A model and its distinct samples."""

    path: Path
    samples: list[Sample]


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: tuple[onnx.TensorProto, ...] = (),
    opset: int = OPSET,
    ir_version: int = IR_VERSION,
) -> Path:
    """Writes a model that every onnxruntime from 1.17 on reads."""
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = ir_version
    onnx.save(model, path)
    return path


def tensor(name: str, kind: int, *shape: int | str | None) -> onnx.ValueInfoProto:
    """An input or output; a string names an open dimension, None leaves it without a name."""
    return helper.make_tensor_value_info(name, kind, list(shape))


def _float32(folder: Path, rng: np.random.Generator) -> Case:
    weight = numpy_helper.from_array(rng.standard_normal((8, 8, 3, 3)).astype(np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    ends = tensor("x", TensorProto.FLOAT, 1, 8, 6, 6), tensor("y", TensorProto.FLOAT, 1, 8, 6, 6)
    path = save(folder / "float32.onnx", nodes, [ends[0]], [ends[1]], (weight,))
    return Case(path, [{"x": rng.random((1, 8, 6, 6), dtype=np.float32)} for _ in range(4)])


def _int8(folder: Path, rng: np.random.Generator) -> Case:
    weights = (
        numpy_helper.from_array(rng.integers(-127, 127, (16, 16)).astype(np.int8), "w"),
        numpy_helper.from_array(np.float32(0.02), "s"),
        numpy_helper.from_array(np.int8(3), "z"),
    )
    nodes = [
        helper.make_node("QLinearMatMul", ["x", "s", "z", "w", "s", "z", "s", "z"], ["y"]),
    ]
    ends = tensor("x", TensorProto.INT8, 4, 16), tensor("y", TensorProto.INT8, 4, 16)
    path = save(folder / "int8.onnx", nodes, [ends[0]], [ends[1]], weights)
    return Case(path, [{"x": rng.integers(-128, 128, (4, 16)).astype(np.int8)} for _ in range(3)])


def _float16(folder: Path, rng: np.random.Generator) -> Case:
    nodes = [
        helper.make_node("Add", ["x", "x"], ["d"]),
        helper.make_node("Relu", ["d"], ["y"]),
    ]
    ends = tensor("x", TensorProto.FLOAT16, 3, 5), tensor("y", TensorProto.FLOAT16, 3, 5)
    path = save(folder / "float16.onnx", nodes, [ends[0]], [ends[1]])
    return Case(path, [{"x": rng.standard_normal((3, 5)).astype(np.float16)} for _ in range(2)])


def _several_ends(folder: Path, rng: np.random.Generator) -> Case:
    """int64 indices into float64 rows under a bool mask; three inputs, three outputs."""
    nodes = [
        helper.make_node("Gather", ["table", "index"], ["rows"]),
        helper.make_node("Not", ["mask"], ["inverse"]),
        helper.make_node("Cast", ["index"], ["small"], to=TensorProto.UINT8),
    ]
    inputs = [
        tensor("table", TensorProto.DOUBLE, 7, 3),
        tensor("index", TensorProto.INT64, 4),
        tensor("mask", TensorProto.BOOL, 2, 2),
    ]
    outputs = [
        tensor("rows", TensorProto.DOUBLE, 4, 3),
        tensor("inverse", TensorProto.BOOL, 2, 2),
        tensor("small", TensorProto.UINT8, 4),
    ]
    path = save(folder / "several_ends.onnx", nodes, inputs, outputs)
    samples: list[Sample] = [
        {
            "table": rng.random((7, 3)),
            "index": rng.integers(0, 7, 4),
            "mask": rng.random((2, 2)) > 0.5,
        }
        for _ in range(5)
    ]
    return Case(path, samples)


def _batch(folder: Path, rng: np.random.Generator) -> Case:
    """A named open dimension, settled by the input's."""
    weight = numpy_helper.from_array(rng.standard_normal((4, 2)).astype(np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    ends = tensor("x", TensorProto.FLOAT, "n", 4), tensor("y", TensorProto.FLOAT, "n", 2)
    path = save(folder / "batch.onnx", nodes, [ends[0]], [ends[1]], (weight,))
    return Case(path, [{"x": rng.random((n, 4), dtype=np.float32)} for n in (1, 3, 1, 8)])


def _data_dependent(folder: Path, rng: np.random.Generator) -> Case:
    """An output whose shape only a run can tell, once of no element at all."""
    nodes = [helper.make_node("NonZero", ["x"], ["y"])]
    ends = tensor("x", TensorProto.FLOAT, 6), tensor("y", TensorProto.INT64, 1, None)
    path = save(folder / "data_dependent.onnx", nodes, [ends[0]], [ends[1]])
    rows = ([1, 0, 2, 0, 0, 3], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1])
    return Case(path, [{"x": np.array(row, dtype=np.float32)} for row in rows])


def _scalar(folder: Path, rng: np.random.Generator) -> Case:
    nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
    ends = tensor("x", TensorProto.INT32), tensor("y", TensorProto.INT32)
    path = save(folder / "scalar.onnx", nodes, [ends[0]], [ends[1]])
    return Case(path, [{"x": np.array(value, dtype=np.int32)} for value in (0, -7, 2**30 - 1)])


def _identity_of(kind: int, dtype: str, name: str) -> Callable[[Path, np.random.Generator], Case]:
    def make(folder: Path, rng: np.random.Generator) -> Case:
        nodes = [helper.make_node("Identity", ["x"], ["y"])]
        ends = tensor("x", kind, 2, 3), tensor("y", kind, 2, 3)
        path = save(folder / f"{name}.onnx", nodes, [ends[0]], [ends[1]])
        values = rng.integers(0, 100, (2, 2, 3)).astype(dtype)
        return Case(path, [{"x": value} for value in values])

    return make


#: Name of each model and what writes it.
CASES: dict[str, Callable[[Path, np.random.Generator], Case]] = {
    "float32": _float32,
    "int8": _int8,
    "float16": _float16,
    "several_ends": _several_ends,
    "batch": _batch,
    "data_dependent": _data_dependent,
    "scalar": _scalar,
    "uint8": _identity_of(TensorProto.UINT8, "uint8", "uint8"),
    "uint16": _identity_of(TensorProto.UINT16, "uint16", "uint16"),
    "int16": _identity_of(TensorProto.INT16, "int16", "int16"),
    "uint32": _identity_of(TensorProto.UINT32, "uint32", "uint32"),
    "uint64": _identity_of(TensorProto.UINT64, "uint64", "uint64"),
    "int64": _identity_of(TensorProto.INT64, "int64", "int64"),
    "float64": _identity_of(TensorProto.DOUBLE, "float64", "float64"),
    "bool": _identity_of(TensorProto.BOOL, "bool", "bool"),
}


def write(name: str, folder: Path) -> Case:
    """The named case, the same on every call."""
    return CASES[name](folder, np.random.default_rng(7))


def damaged(whole: bytes, count: int) -> Iterator[bytes]:
    """Copies of a file with one to five of its bytes changed, the same on every call."""
    rng = np.random.default_rng(5)
    for _ in range(count):
        content = bytearray(whole)
        for _ in range(rng.integers(1, 6)):
            content[rng.integers(0, len(content))] = rng.integers(0, 256)
        yield bytes(content)


def write_dense_tflite(path: Path, width: int, *, open_batch: bool = False) -> Path:
    """One fully connected layer with ReLU, float32, (1, width) to (1, width)."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    weight = np.random.default_rng(7).standard_normal((width, width)).astype(np.float32)
    model = schema.ModelT()
    model.version = 3
    model.buffers = [schema.BufferT(), schema.BufferT()]
    model.buffers[1].data = np.frombuffer(weight.tobytes(), dtype=np.uint8)
    code = schema.OperatorCodeT()
    code.version = 1
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    model.operatorCodes = [code]
    graph = schema.SubGraphT()
    graph.tensors = [_tflite_tensor(schema, "x", [1, width], 0, open_batch=open_batch)]
    graph.tensors.append(_tflite_tensor(schema, "w", [width, width], 1, open_batch=False))
    graph.tensors.append(_tflite_tensor(schema, "y", [1, width], 0, open_batch=open_batch))
    layer = schema.OperatorT()
    layer.inputs, layer.outputs = [0, 1, -1], [2]
    layer.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    layer.builtinOptions = schema.FullyConnectedOptionsT()
    layer.builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.RELU
    graph.operators = [layer]
    graph.inputs, graph.outputs = [0], [2]
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def _tflite_tensor(
    schema: Any, name: str, shape: list[int], buffer: int, *, open_batch: bool
) -> Any:
    made = schema.TensorT()
    made.name, made.shape, made.buffer = name, shape, buffer
    made.type = schema.TensorType.FLOAT32
    if open_batch:
        made.shapeSignature = [-1, *shape[1:]]
    return made
