"""The models the native loop is timed with: about 3 µs, 20 µs and 2 ms on a PC's core."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

#: Old enough for every onnxruntime from 1.17 on; onnx's own default is refused by 1.23.
OPSET = 17
IR_VERSION = 8


@dataclass(frozen=True, slots=True)
class Model:
    """``queries`` are timed in each process, after a quarter as many that are not."""

    name: str
    queries: int
    path: Path


def build(directory: Path) -> tuple[Model, ...]:
    """Writes the three models into ``directory``."""
    return (
        Model("tiny", 100_000, _dense(directory / "tiny.onnx", layers=3, width=48)),
        Model("small", 20_000, conv(directory / "small.onnx", layers=4, channels=8, size=12)),
        Model("medium", 250, conv(directory / "medium.onnx", layers=4, channels=32, size=48)),
    )


def _dense(path: Path, layers: int, width: int) -> Path:
    rng = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    for layer in range(layers):
        name = f"w{layer}"
        weights.append(_weight(rng, name, (width, width), fan_in=width))
        nodes.append(helper.make_node("Gemm", [value, name], [f"h{layer}"]))
        value = "y" if layer == layers - 1 else f"r{layer}"
        nodes.append(helper.make_node("Relu", [f"h{layer}"], [value]))
    return _save(path, nodes, weights, [1, width])


def conv(path: Path, layers: int, channels: int, size: int) -> Path:
    """Writes 3x3 convolutions in a row, each with a ReLU."""
    rng = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    for layer in range(layers):
        name = f"w{layer}"
        weights.append(_weight(rng, name, (channels, channels, 3, 3), fan_in=9 * channels))
        nodes.append(helper.make_node("Conv", [value, name], [f"c{layer}"], pads=[1, 1, 1, 1]))
        value = "y" if layer == layers - 1 else f"r{layer}"
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [value]))
    return _save(path, nodes, weights, [1, channels, size, size])


def _weight(
    rng: np.random.Generator, name: str, shape: tuple[int, ...], fan_in: int
) -> onnx.TensorProto:
    drawn = rng.standard_normal(shape) * np.sqrt(2 / fan_in)
    return numpy_helper.from_array(drawn.astype(np.float32), name)


def _save(
    path: Path, nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto], shape: list[int]
) -> Path:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = helper.make_graph(nodes, path.stem, ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    onnx.save(model, path)
    return path
