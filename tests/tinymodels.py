"""Real models small enough to be made in a test, by the formats' own tools."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.core import digest
from assay.core.model import (
    MEDIA_NPZ,
    ArtifactRef,
    InputSpec,
    Profile,
    RunSpec,
    RuntimeSpec,
    Scenario,
)
from tests.conftest import need

MS = 1_000_000

SHORT = Profile(
    name="short",
    warmup_min_ns=60 * MS,
    warmup_block_ns=20 * MS,
    warmup_block_queries=10,
    warmup_max_ns=3000 * MS,
    t_min_ns=300 * MS,
    t_max_ns=900 * MS,
    highest_percentile=0.9,
    half_width_target=0.2,
    settle_max_ns=0,
)
"""A profile for tests: the whole path in about a second, no number to be trusted."""


def save_onnx(
    path: Path,
    nodes: Sequence[Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    weights: Sequence[Any] = (),
    opset: int = 13,
) -> Path:
    """Writes a graph of ``onnx.helper`` parts that every supported onnxruntime loads (IR 8)."""
    need(module="onnx")
    from onnx import helper, save

    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), list(weights))
    opsets = [helper.make_opsetid("", opset)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))
    return path


def save_mlp(
    path: Path,
    *,
    batch: int | str = "N",
    features: int = 16,
    classes: int = 10,
    hidden: int = 16,
    seed: int = 0,
) -> Path:
    """x (batch, features) float -> scores (batch, classes)."""
    need(module="onnx")
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)
    weights = [
        numpy_helper.from_array(rng.normal(0, 0.3, shape).astype(np.float32), name)
        for name, shape in (("w0", (features, hidden)), ("w1", (hidden, classes)))
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "w1"], ["scores"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, features])
    y = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, classes])
    return save_onnx(path, nodes, [x], [y], weights)


def save_nan(path: Path) -> Path:
    """x (N, 16) float -> NaN of the same shape."""
    need(module="onnx")
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Sub", ["x", "x"], ["zero"]),
        helper.make_node("Div", ["zero", "zero"], ["y"]),
    ]
    tensors = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 16]) for n in "xy"]
    return save_onnx(path, nodes, tensors[:1], tensors[1:])


def save_samples(
    path: Path, *, n: int = 40, features: int = 16, classes: int = 10, seed: int = 1
) -> Path:
    """x (n, features) float32 and y (n,)."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, features)).astype(np.float32)
    np.savez(path, x=x, y=rng.integers(0, classes, n))
    return path


def save_arrays(path: Path, **arrays: NDArray[Any]) -> Path:
    """An .npz."""
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def run_of(
    model: Path,
    inputs: Path,
    *,
    runtime: RuntimeSpec | None = None,
    media_type: str = "model/onnx",
    scenario: Scenario | None = None,
    profile: Profile = SHORT,
    preprocessing: str = "{}",
    dataset: str = "test samples",
    evaluate: bool = False,
    canary: bool = False,
) -> RunSpec:
    """A run of ``model`` on this machine."""
    return RunSpec(
        attempt_id="attempt",
        cell_key="cell",
        variant_id="variant",
        variant_name=model.stem,
        artifact=ref_of(model, media_type),
        runtime=runtime or RuntimeSpec("onnxruntime"),
        scenario=scenario or Scenario(),
        profile=profile,
        inputs=InputSpec(dataset, ref_of(inputs, MEDIA_NPZ), preprocessing),
        evaluate=evaluate,
        canary=canary,
        seed=7,
    )


def ref_of(path: Path, media_type: str) -> ArtifactRef:
    """The file by its content."""
    return ArtifactRef(digest.of_file(path), path.stat().st_size, media_type)


def tflite(
    operator: str,
    inputs: Sequence[tuple[str, Sequence[int], str]],
    output: tuple[str, Sequence[int], str],
    *,
    quantised: tuple[float, int] | None = None,
    open_batch: bool = False,
) -> bytes:
    """A .tflite of one built-in operator; tensors are (name, shape, FLOAT32 | INT8 | ...)."""
    need(module="ai_edge_litert")
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model, graph, code = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, operator)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.version = 2 if quantised else 1
    graph.tensors = [
        _tflite_tensor(schema, one, quantised, open_batch) for one in (*inputs, output)
    ]
    graph.inputs, graph.outputs = list(range(len(inputs))), [len(inputs)]
    step = schema.OperatorT()
    step.opcodeIndex, step.inputs, step.outputs = 0, graph.inputs, graph.outputs
    if operator == "ADD":
        step.builtinOptionsType = schema.BuiltinOptions.AddOptions
        step.builtinOptions = schema.AddOptionsT()
    graph.operators = [step]
    model.version, model.operatorCodes = 3, [code]
    model.subgraphs, model.buffers = [graph], [schema.BufferT()]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tflite_tensor(
    schema: Any,
    tensor: tuple[str, Sequence[int], str],
    quantised: tuple[float, int] | None,
    open_batch: bool,
) -> Any:
    name, shape, kind = tensor
    made = schema.TensorT()
    made.name, made.shape, made.buffer = name.encode(), list(shape), 0
    made.type = getattr(schema.TensorType, kind)
    if open_batch:
        made.shapeSignature = [-1, *shape[1:]]
    if quantised is not None:
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale, made.quantization.zeroPoint = [quantised[0]], [quantised[1]]
    return made
