"""Static cost: parameters, MACs, bytes and operators, counted from the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.controller.inspection.inspect import precision, static_cost, transfer_bytes
from assay.core.errors import BadInputs, UsageError
from assay.core.model import MEDIA_ONNX, MEDIA_TFLITE
from tests.conftest import SHARED_DATA, need

CANARY = Path(__file__).parents[2] / "controller/assay/controller/canary"


def onnx_file(
    folder: Path,
    nodes: Sequence[Any],
    x: Sequence[int | str],
    weights: dict[str, np.ndarray],
    output: str = "y",
) -> Path:
    """A model of ``nodes`` from ``x`` to ``output``, without shapes in between."""
    need(module="onnx")
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def node(kind: str, inputs: Sequence[str], output: str = "y", **attributes: Any) -> Any:
    need(module="onnx")
    from onnx import helper

    return helper.make_node(kind, inputs, [output], **attributes)


def f32(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def cost_of(path: Path) -> tuple[int | None, int]:
    cost = static_cost(path, MEDIA_ONNX)
    return cost.macs, cost.parameters


def test_convolution_counts_outputs_times_kernel(tmp_path: Path) -> None:
    conv = node("Conv", ["x", "w", "b"], strides=[2, 2], pads=[1, 1, 1, 1])
    path = onnx_file(tmp_path, [conv], [1, 3, 8, 8], {"w": f32(4, 3, 3, 3), "b": f32(4)})
    assert cost_of(path) == (4 * 4 * 4 * 3 * 9, 4 * 27 + 4)


def test_groups_divide_the_work(tmp_path: Path) -> None:
    conv = node("Conv", ["x", "w"], group=4)
    path = onnx_file(tmp_path, [conv], [1, 4, 8, 8], {"w": f32(4, 1, 3, 3)})
    assert cost_of(path) == (4 * 6 * 6 * 9, 36)


def test_transposed_convolution_counts_inputs_times_kernel(tmp_path: Path) -> None:
    conv = node("ConvTranspose", ["x", "w"], strides=[2, 2])
    path = onnx_file(tmp_path, [conv], [1, 4, 5, 5], {"w": f32(4, 6, 2, 2)})
    assert cost_of(path) == (4 * 25 * 6 * 4, 96)


@pytest.mark.parametrize("transposed", [False, True])
def test_gemm_counts_outputs_times_depth(tmp_path: Path, transposed: bool) -> None:
    gemm = node("Gemm", ["x", "w"], transA=int(transposed))
    shape = [16, 1] if transposed else [1, 16]
    path = onnx_file(tmp_path, [gemm], shape, {"w": f32(16, 10)})
    assert cost_of(path) == (160, 160)


def test_matrix_product_counts_every_leading_dimension(tmp_path: Path) -> None:
    path = onnx_file(tmp_path, [node("MatMul", ["x", "w"])], [1, 7, 16], {"w": f32(16, 10)})
    assert cost_of(path) == (7 * 16 * 10, 160)


def test_free_batch_counts_one_sample(tmp_path: Path) -> None:
    path = onnx_file(tmp_path, [node("MatMul", ["x", "w"])], ["n", 16], {"w": f32(16, 10)})
    assert cost_of(path) == (160, 160)


def test_shape_that_depends_on_the_data_gives_no_macs(tmp_path: Path) -> None:
    path = onnx_file(tmp_path, [node("MatMul", ["x", "w"])], ["n", "m", 16], {"w": f32(16, 10)})
    assert cost_of(path) == (None, 160)


def test_integer_convolution_counts_and_scales_are_no_parameters(tmp_path: Path) -> None:
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], "q"),
        node("ConvInteger", ["q", "w", "z", "z"], "i"),
        node("Cast", ["i"], "y", to=1),
    ]
    weights = {
        "s": np.float32(0.1),
        "z": np.uint8(3),
        "w": np.ones((4, 3, 3, 3), np.uint8),
    }
    path = onnx_file(tmp_path, nodes, [1, 3, 8, 8], weights)
    assert cost_of(path) == (4 * 36 * 27, 108)
    assert precision(path, MEDIA_ONNX) == "int8"


def test_quantised_convolution_counts(tmp_path: Path) -> None:
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], "q"),
        node("QLinearConv", ["q", "s", "z", "w", "s", "v", "s", "z", "b"], "i"),
        node("DequantizeLinear", ["i", "s", "z"], "y"),
    ]
    weights = {
        "s": np.float32(0.1),
        "z": np.uint8(3),
        "v": np.int8(0),
        "w": np.ones((4, 3, 3, 3), np.int8),
        "b": np.ones(4, np.int32),
    }
    path = onnx_file(tmp_path, nodes, [1, 3, 8, 8], weights)
    assert cost_of(path) == (4 * 36 * 27, 112)


def test_quantised_weights_behind_a_dequantisation_count(tmp_path: Path) -> None:
    nodes = [
        node("DequantizeLinear", ["w8", "s", "v"], "w"),
        node("Conv", ["x", "w"]),
    ]
    weights = {
        "w8": np.ones((4, 3, 3, 3), np.int8),
        "s": np.float32(0.1),
        "v": np.int8(0),
    }
    path = onnx_file(tmp_path, nodes, [1, 3, 8, 8], weights)
    assert cost_of(path) == (4 * 36 * 27, 108)


@pytest.mark.parametrize("domain", ["", "com.microsoft"])
def test_operator_of_weight_without_a_rule_gives_no_macs(tmp_path: Path, domain: str) -> None:
    kind = "Attention" if domain else "Einsum"
    attributes = {"num_heads": 2} if domain else {"equation": "ij,jk->ik"}
    unknown = node(kind, ["x", "w"], domain=domain, **attributes)
    path = onnx_file(tmp_path, [unknown], [1, 16], {"w": f32(16, 10)})
    assert cost_of(path) == (None, 160)
    name = f"{domain}.{kind}" if domain else kind
    assert static_cost(path, MEDIA_ONNX).operators == {name: 1}


def test_elementwise_work_and_shape_constants_count_nothing(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], "r"), node("Reshape", ["r", "shape"])]
    path = onnx_file(tmp_path, nodes, [1, 4, 4], {"shape": np.array([1, 16], np.int64)})
    assert cost_of(path) == (0, 0)
    assert static_cost(path, MEDIA_ONNX).operators == {"Relu": 1, "Reshape": 1}


def test_half_precision_is_seen(tmp_path: Path) -> None:
    nodes = [
        node("Cast", ["x"], "h", to=10),
        node("MatMul", ["h", "w"], "p"),
        node("Cast", ["p"], to=1),
    ]
    path = onnx_file(tmp_path, nodes, [1, 16], {"w": f32(16, 10).astype(np.float16)})
    assert precision(path, MEDIA_ONNX) == "fp16"
    assert cost_of(path) == (160, 160)


def test_canary_costs_what_torch_says_in_both_formats() -> None:
    need(module="onnx")
    need(module="ai_edge_litert")
    onnx, lite = (
        static_cost(CANARY / name, media)
        for name, media in (("canary.onnx", MEDIA_ONNX), ("canary.tflite", MEDIA_TFLITE))
    )
    by_hand = (
        48 * 48 * 9 * (1 * 32 + 32 * 32)
        + 24 * 24 * 9 * (32 * 32 + 32 * 48)
        + 12 * 12 * 9 * 48 * 48
        + 432 * 32
        + 32 * 10
    )
    assert onnx.macs == lite.macs == by_hand
    weights = 9 * (32 + 32 * 32 * 2 + 32 * 48 + 48 * 48) + 432 * 32 + 320
    assert onnx.parameters == weights  # its biases are zero, and left out
    assert onnx.file_bytes == (CANARY / "canary.onnx").stat().st_size


@pytest.mark.parametrize(
    ("name", "kind"), [("pretrainedResnet", "fp32"), ("pretrainedResnet_quant", "int8")]
)
def test_mlperf_tiny_reference_costs_what_is_published(name: str, kind: str) -> None:
    need(module="ai_edge_litert")
    path = SHARED_DATA / "mlperf-tiny" / f"{name}.tflite"
    need(path=path)
    cost = static_cost(path, MEDIA_TFLITE)
    assert cost.macs == 12_501_632  # 12.5 M, 78 k parameters: Banbury et al., 2021
    assert 77_000 < cost.parameters < 79_000
    assert cost.operators["CONV_2D"] == 9
    assert precision(path, MEDIA_TFLITE) == kind


def test_transfer_is_zstd(tmp_path: Path) -> None:
    assert transfer_bytes(b"\0" * 100_000) < 100
    noise = np.random.RandomState(0).bytes(100_000)
    assert transfer_bytes(noise) >= 100_000


@pytest.mark.parametrize("data", [b"", b"hello world", b"\x08\x0a\xff\xff"])
def test_what_is_no_onnx_file_is_refused_or_empty(tmp_path: Path, data: bytes) -> None:
    need(module="onnx")
    path = tmp_path / "a.onnx"
    path.write_bytes(data)
    if data:
        with pytest.raises(BadInputs, match="not an ONNX file"):
            static_cost(path, MEDIA_ONNX)
    else:
        assert static_cost(path, MEDIA_ONNX).operators == {}


def test_weights_in_another_file_count(tmp_path: Path) -> None:
    path = onnx_file(tmp_path, [node("MatMul", ["x", "w"])], [1, 64], {"w": f32(64, 64)})
    import onnx

    onnx.save(onnx.load(path), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    cost = static_cost(path, MEDIA_ONNX, tmp_path / "w.bin")
    assert cost.parameters == cost.macs == 64 * 64
    assert cost.file_bytes == 64 * 64 * 4 and cost.transfer_bytes < cost.file_bytes


@pytest.mark.parametrize("cut", [0, 4, 100, 5_000])
def test_damaged_tflite_is_refused(tmp_path: Path, cut: int) -> None:
    need(module="ai_edge_litert")
    path = tmp_path / "a.tflite"
    path.write_bytes((CANARY / "canary.tflite").read_bytes()[:cut])
    with pytest.raises(BadInputs, match="tflite"):
        static_cost(path, MEDIA_TFLITE)


def test_other_media_have_no_rules(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"x")
    with pytest.raises(UsageError, match="no rules"):
        static_cost(path, "model/other")
