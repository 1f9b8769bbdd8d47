"""What is particular to ONNX Runtime."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from assay.agent.runtimes import probe as probing
from assay.agent.runtimes.describe import describe
from assay.agent.runtimes.onnx_weights import weight_precision
from assay.agent.runtimes.onnxruntime import OnnxModel, OnnxRuntime
from assay.agent.runtimes.probe import probe_runtime
from assay.core.errors import RuntimeAbsent, RuntimeRejected
from assay.core.model import Absent, Fidelity, RuntimeFacts, RuntimeSpec
from tests.conftest import need
from tests.tinymodels import save_mlp, save_onnx

SPEC = RuntimeSpec("onnxruntime")


@pytest.fixture(autouse=True)
def _needs() -> None:
    need(module="onnxruntime")
    need(module="onnx")


def test_the_embedded_model_is_what_it_says() -> None:
    import onnx

    model = onnx.load_from_string(OnnxRuntime.one_operator_model())
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["Relu"]
    assert model.ir_version <= 8 and model.opset_import[0].version <= 13


def test_outputs_of_unknown_shape_are_read_from_the_query_that_ran(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 6])
    y = helper.make_tensor_value_info("y", TensorProto.INT64, [2, "found"])
    path = save_onnx(tmp_path / "m.onnx", [helper.make_node("NonZero", ["x"], ["y"])], [x], [y])
    bound = OnnxRuntime.load(path, SPEC).bind(
        [
            {"x": np.array([row], dtype=np.float32)}
            for row in ([0, 1, 0, 1, 1, 0], [9, 0, 0, 0, 0, 0])
        ]
    )
    for i, columns in ((0, [1, 3, 4]), (1, [0]), (0, [1, 3, 4])):
        bound.calls[i]()
        assert bound.outputs(i)[0][1].tolist() == columns


def test_a_name_repeated_where_sizes_differ_is_not_believed(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", "D"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", "D"])
    node = helper.make_node("Concat", ["x", "x"], ["y"], axis=1)
    model = OnnxRuntime.load(save_onnx(tmp_path / "m.onnx", [node], [x], [y]), SPEC)
    bound = model.bind([{"x": np.ones((2, 3), dtype=np.float32)}])
    bound.calls[0]()
    assert bound.outputs(0)[0].shape == (2, 6)


def test_integers_and_several_outputs(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("ids", TensorProto.INT64, ["N"])
    outs = [helper.make_tensor_value_info(n, TensorProto.INT64, ["N"]) for n in ("twice", "same")]
    nodes = [
        helper.make_node("Add", ["ids", "ids"], ["twice"]),
        helper.make_node("Identity", ["ids"], ["same"]),
    ]
    model = OnnxRuntime.load(save_onnx(tmp_path / "m.onnx", nodes, [x], outs), SPEC)
    bound = model.bind([{"ids": np.array([1, 2])}, {"ids": np.array([3, 4])}])
    bound.calls[1]()
    assert [out.tolist() for out in bound.outputs(1)] == [[6, 8], [3, 4]]
    assert [spec.dtype for spec in model.outputs] == ["int64", "int64"]


def test_text_is_run_by_the_public_interface(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    tensors = [helper.make_tensor_value_info(n, TensorProto.STRING, [2]) for n in "xy"]
    node = helper.make_node("Identity", ["x"], ["y"])
    model = OnnxRuntime.load(save_onnx(tmp_path / "m.onnx", [node], tensors[:1], tensors[1:]), SPEC)
    words = np.array(["ein", "wort"], dtype=object)
    bound = model.bind([{"x": words}, {"x": words[::-1]}])
    bound.calls[1]()
    assert bound.outputs(1)[0].tolist() == ["wort", "ein"]
    assert bound.fidelity is Fidelity.PUBLIC_API and model.inputs[0].dtype == "str"


def test_what_is_no_tensor_is_refused_by_name(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    y = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, [1])
    node = helper.make_node("SequenceConstruct", ["x"], ["y"])
    path = save_onnx(tmp_path / "m.onnx", [node], [x], [y])
    with pytest.raises(RuntimeRejected, match=r"y is a seq\(tensor\(float\)\)"):
        OnnxRuntime.load(path, SPEC)


def test_a_missing_library_of_operators_is_named(tmp_path: Path) -> None:
    spec = replace(SPEC, options={"custom_ops_library": str(tmp_path / "ops.so")})
    with pytest.raises(RuntimeRejected, match=r"ops\.so is not on this device"):
        OnnxRuntime.load(OnnxRuntime.one_operator_model(), spec)


def test_what_is_bound_is_read_where_it_lies(tmp_path: Path) -> None:
    model = OnnxRuntime.load(OnnxRuntime.one_operator_model(), SPEC)
    feed = {"x": np.zeros(4, dtype=np.float32)}
    bound = model.bind([feed])
    feed["x"][:] = 3
    bound.calls[0]()
    assert bound.rewritable and bound.outputs(0)[0].tolist() == [3, 3, 3, 3]


def test_an_unknown_operator_and_a_newer_opset_are_refused(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    tensors = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy"]
    node = helper.make_node("Frobnicate", ["x"], ["y"])
    path = save_onnx(tmp_path / "a.onnx", [node], tensors[:1], tensors[1:])
    with pytest.raises(RuntimeRejected, match="Frobnicate"):
        OnnxRuntime.load(path, SPEC)
    node = helper.make_node("Relu", ["x"], ["y"])
    path = save_onnx(tmp_path / "b.onnx", [node], tensors[:1], tensors[1:], opset=9999)
    with pytest.raises(RuntimeRejected, match="opset"):
        OnnxRuntime.load(path, SPEC)


def test_settings_reach_the_session(tmp_path: Path) -> None:
    path = save_mlp(tmp_path / "m.onnx")
    options = {"graph_optimization_level": "disable", "cpu_mem_arena": "0", "mem_pattern": "0"}
    spec = RuntimeSpec("onnxruntime", threads=2, allow_spinning=False, options=options)
    session_options = OnnxRuntime.load(path, spec)._session.get_session_options()
    assert session_options.intra_op_num_threads == 2
    assert not session_options.enable_cpu_mem_arena and not session_options.enable_mem_pattern
    entry = session_options.get_session_config_entry
    assert entry("session.intra_op.allow_spinning") == "0"


def test_every_operator_is_placed(tmp_path: Path) -> None:
    model = OnnxRuntime.load(save_mlp(tmp_path / "m.onnx"), SPEC)
    assert model.placement()[0].startswith("CPUExecutionProvider")


class _Shared:
    """A session of which a provider took some operators and left others to the CPU."""

    def get_inputs(self) -> list[object]:
        return []

    get_outputs = get_inputs

    def get_provider_graph_assignment_info(self) -> list[object]:
        def part(provider: str, *operators: str) -> object:
            nodes = [SimpleNamespace(op_type=name) for name in operators]
            return SimpleNamespace(ep_name=provider, get_nodes=lambda: nodes)

        xnnpack = "XnnpackExecutionProvider"
        return [
            part(xnnpack, "Conv", "Conv"),
            part("CPUExecutionProvider", "TopK"),
            part(xnnpack, "Softmax"),
        ]


def test_what_a_provider_took_and_what_it_left_is_told() -> None:
    model = OnnxModel(_Shared(), "XnnpackExecutionProvider", "float32")
    assert model.placement() == (
        "XnnpackExecutionProvider: 3 operators (Conv x2, Softmax x1)",
        "CPUExecutionProvider: 1 operators (TopK x1)",
    )
    assert model.fallback() == "TopK x1"
    assert OnnxModel(_Shared(), "CPUExecutionProvider", "float32").fallback() == ""


@pytest.mark.parametrize(
    ("dtype", "name"), [("float32", "float32"), ("float16", "float16"), ("int8", "int8")]
)
def test_the_precision_of_the_weights_is_read_from_the_file(dtype: str, name: str) -> None:
    from onnx import helper, numpy_helper

    weights = [
        numpy_helper.from_array(np.zeros((30, 30), dtype=dtype), "big"),
        numpy_helper.from_array(np.zeros(9, dtype=np.int64), "small"),
    ]
    graph = helper.make_graph([], "g", [], [], weights)
    assert weight_precision(helper.make_model(graph).SerializeToString()) == name


def test_the_precision_agrees_with_onnx_on_a_real_model(tmp_path: Path) -> None:
    assert weight_precision(save_mlp(tmp_path / "m.onnx").read_bytes()) == "float32"
    assert weight_precision(OnnxRuntime.one_operator_model()) == ""


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"\x3a\x7f", bytes(100)])
def test_a_file_that_is_no_model_has_no_precision(content: bytes) -> None:
    assert weight_precision(content) == ""


def test_a_model_is_described_in_a_process_of_its_own(tmp_path: Path) -> None:
    found = describe(save_mlp(tmp_path / "m.onnx", batch=2), SPEC)
    assert [str(spec) for spec in found.inputs] == ["x float32[2,16]"]
    assert [str(spec) for spec in found.outputs] == ["scores float32[2,10]"]


def test_a_refusal_comes_back_from_that_process_as_itself(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"rubbish" * 9)
    with pytest.raises(RuntimeRejected, match="refused the model"):
        describe(path, SPEC)
    with pytest.raises(RuntimeAbsent, match="Nowhere"):
        describe(path, RuntimeSpec("onnxruntime", provider="Nowhere"))


def test_probing_imports_no_runtime_here() -> None:
    code = (
        "import sys; from assay.agent.runtimes.probe import probe_runtime as p;"
        "found = p('onnxruntime'); assert found.version, found;"
        "assert not {'onnxruntime', 'numpy', 'grpc'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_probe_that_answers_is_believed() -> None:
    found = probe_runtime("onnxruntime")
    assert isinstance(found, RuntimeFacts) and found.version == OnnxRuntime.version()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "died by SIGILL"),
        ("import sys; sys.exit('no luck')", "no luck"),
        ("print('noise'); print('[1]')", "failed"),
        ("import time; time.sleep(60)", "did not answer"),
    ],
)
def test_a_probe_that_dies_is_absent_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str, why: str
) -> None:
    script = tmp_path / "python"
    script.write_text(f"#!{sys.executable}\n{body}\n")
    script.chmod(0o755)
    monkeypatch.setattr(probing.sys, "executable", str(script))
    found = probe_runtime("onnxruntime", timeout_s=1.5)
    assert isinstance(found, Absent) and why in found.reason
