"""State that a model gives goes back into it, query by query, in both runtimes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from assay.agent.runtimes.base import LoadedModel
from assay.agent.runtimes.litert import LiteRt
from assay.agent.runtimes.onnxruntime import OnnxRuntime
from assay.agent.worker.feedback import fed_back
from assay.core.errors import BadInputs
from assay.core.model import RuntimeSpec
from tests.conftest import need
from tests.tinymodels import save_onnx, tflite


def onnx_counter(folder: Path) -> LoadedModel:
    """total = state + step, given back as state."""
    need(module="onnx")
    need(module="onnxruntime")
    from onnx import TensorProto, helper

    info = helper.make_tensor_value_info
    ends = [info(n, TensorProto.FLOAT, [1, 2]) for n in ("state", "step", "total")]
    node = helper.make_node("Add", ["state", "step"], ["total"])
    path = save_onnx(folder / "counter.onnx", [node], ends[:2], ends[2:])
    return OnnxRuntime.load(path, RuntimeSpec("onnxruntime"))


def tflite_counter(_: Path) -> LoadedModel:
    state, step, total = ((name, (1, 2), "FLOAT32") for name in ("state", "step", "total"))
    return LiteRt.load(tflite("ADD", [state, step], total), RuntimeSpec("litert"))


def steps(count: int) -> list[dict[str, np.ndarray]]:
    zero = np.zeros((1, 2), np.float32)
    return [
        {"state": zero.copy(), "step": np.full((1, 2), i + 1, np.float32)} for i in range(count)
    ]


@pytest.mark.parametrize("load", [onnx_counter, tflite_counter])
def test_each_pass_is_a_sequence_that_begins_anew(
    load: Callable[[Path], LoadedModel], tmp_path: Path
) -> None:
    model, feeds = load(tmp_path), steps(3)
    bound = fed_back(model.bind(feeds), feeds, {"state": "total"}, model.inputs, model.outputs)
    assert bound.stages is not None
    totals = []
    for _ in range(2):
        for i, (stage, call) in enumerate(zip(bound.stages, bound.calls, strict=True)):
            stage()
            call()
            totals.append(float(bound.outputs(i)[0][0, 0]))
    assert totals == [1, 3, 6, 1, 3, 6]


def test_state_the_model_has_not_is_named(tmp_path: Path) -> None:
    model, feeds = onnx_counter(tmp_path), steps(1)
    bound = model.bind(feeds)
    for state, why in (
        ({"state": "sum"}, r"state = sum: the model has no output sum"),
        ({"hidden": "total"}, r"hidden = total: the model has no input hidden"),
    ):
        with pytest.raises(BadInputs, match=why):
            fed_back(bound, feeds, state, model.inputs, model.outputs)
