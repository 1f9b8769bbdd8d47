"""Operator sets 11 to 21 and the IR versions that go with them load and run on both sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from assay.agent.runtimes.onnxruntime import OnnxRuntime
from assay.controller.inspection.inspect import static_cost
from assay.controller.inspection.reference import open_reference
from assay.core.model import MEDIA_ONNX, RuntimeSpec
from tests.conftest import need

VERSIONS = [(11, 6), (12, 7), (13, 7), (14, 7), (15, 8), (16, 8), (17, 8), (18, 8), (19, 9)]
VERSIONS += [(20, 9), (21, 10)]


@pytest.mark.parametrize(("opset", "ir"), VERSIONS)
def test_an_operator_set_loads_runs_and_is_counted(opset: int, ir: int, tmp_path: Path) -> None:
    need(module="onnx")
    need(module="onnxruntime")
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = np.random.default_rng(opset).random((8, 4)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Softmax", ["h"], ["y"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    feed = {"x": np.ones((2, 8), np.float32)}
    (there,) = OnnxRuntime.load(path, RuntimeSpec("onnxruntime")).run(feed)
    (here,) = open_reference(path, MEDIA_ONNX).run(feed)
    np.testing.assert_allclose(there, here, rtol=1e-6)
    assert static_cost(path, MEDIA_ONNX).macs == 32
