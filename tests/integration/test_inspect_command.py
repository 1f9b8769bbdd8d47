"""``assay inspect``: what a file is, whoever made it, and what is told of one that is broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from assay.controller.cli import assay
from assay.controller.inspection import bounds
from assay.core.errors import AssayError, BadInputs, NotFound, UsageError, WorkerTimeout
from tests import anymodels, anytflite
from tests.conftest import need
from tests.tinymodels import save_onnx


def run(*arguments: str) -> str:
    done = CliRunner().invoke(assay, ["inspect", *arguments], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.stdout


def told(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(str(path), "--format", "json"))
    return found


@pytest.fixture(autouse=True)
def _needs() -> None:
    for module in ("onnx", "onnxruntime", "ai_edge_litert"):
        need(module=module)


def test_an_onnx_file_is_told_whole(tmp_path: Path) -> None:
    path = anymodels.text(tmp_path / "text.onnx")
    found = told(path)
    assert found["inputs"] == ["ids int64[batch,sequence]", "mask int64[batch,sequence]"]
    assert found["outputs"] == ["logits float32[batch,4]", "label int64[batch]"]
    assert found["versions"] == {"ir": "8", "opset ai.onnx": "13"}
    assert found["operators"]["Gather"] == 1 and found["parameters"] == 1664
    assert found["stored"]["float32"] == "1664 values in 2 tensors"
    assert found["dims"] == {"batch": 1, "sequence": 128}
    first, *others = found["runtimes"]
    assert first["runtime"].startswith("onnxruntime") and first["loads"] is True
    assert all(other["loads"] is None for other in others)
    table = run(str(path))
    assert "ids int64[batch,sequence]" in table and "loads it in" in table
    assert 'inputs,"ids int64[batch,sequence]"' in run(str(path), "--format", "csv")


def test_inner_graphs_and_external_data_are_told(tmp_path: Path) -> None:
    found = told(anymodels.branching(tmp_path / "branching.onnx"))
    assert {"If", "Loop", "Neg"} <= set(found["operators"]) and found["parameters"] == 1
    found = told(anymodels.outside(tmp_path / "outside.onnx"))
    assert found["external_data"] == {"deep/weights.bin": 16384} and found["parameters"] == 4096


def test_what_exporters_write_beside_the_rule_is_told_plainly(tmp_path: Path) -> None:
    import onnx

    path = anymodels.logarithm(tmp_path / "log.onnx")
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "?"
    model.metadata_props.add(key="characters", value="\n".join("assay" * 2000))
    onnx.save(model, path)
    found = told(path)
    assert found["inputs"] == ["x float32[?,16]"] and found["dims"] == {"x[0]": 1}
    kept = found["metadata"]["characters"]
    assert kept.startswith("a s s a y") and kept.endswith("... (19999 characters)")


def test_a_tflite_file_is_told_with_signatures_metadata_and_scales(tmp_path: Path) -> None:
    found = told(anytflite.mixing(tmp_path / "mixing.tflite", open_batch=True))
    assert found["inputs"] == ["state float32[?,8]", "step float32[?,8]"]
    assert found["signatures"] == ["serve: arg0, arg1 → res0, res1 (subgraph 0)"]
    assert found["metadata"] == {"description": "adds up", "about": "made for tests"}
    assert found["dims"] == {"state[0]": 1, "step[0]": 1}
    quantised = told(anytflite.mixing(tmp_path / "quantised.tflite", quantised=True))
    assert quantised["inputs"][0] == "state int8[1,8] (real = 0.05 × (stored - -3))"
    assert [word["loads"] for word in quantised["runtimes"]] == [None, True, None]


def test_an_operator_nobody_has_is_told_and_the_runtimes_word_on_it(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy"]
    node = helper.make_node("Frobnicate", ["x"], ["y"], domain="nowhere")
    path = save_onnx(tmp_path / "custom.onnx", [node], ends[:1], ends[1:])
    found = told(path)
    assert found["custom_operators"] == ["nowhere.Frobnicate"] and found["macs"] is None
    word = found["runtimes"][0]
    assert word["loads"] is False and "runtime_rejected" in word["says"]
    assert "Frobnicate" in word["says"] or "nowhere" in word["says"]


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("a.onnx", b"\xff\xff\xff", BadInputs),
        ("a.tflite", b"\x00" * 4 + b"TFL3" + b"\xff" * 40, BadInputs),
        ("a.pt", b"", UsageError),
        ("absent.onnx", None, NotFound),
    ],
)
def test_what_is_no_model_is_named(
    tmp_path: Path, name: str, content: bytes | None, error: type[AssayError]
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=name.partition(".")[0]):
        run(str(tmp_path / name))


def test_a_process_that_does_not_answer_is_killed(tmp_path: Path) -> None:
    with pytest.raises(WorkerTimeout, match=r"took more than 0\.01 s"):
        bounds.ask("assay.controller.inspection.facts", tmp_path / "a.onnx", timeout_s=0.01)
