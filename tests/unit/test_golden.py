"""Golden outputs: the reference run and how far devices may differ from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from assay.controller import canary
from assay.controller.inspection import golden
from assay.controller.inspection.reference import open_reference, reference_version
from assay.core.errors import BadInputs, RuntimeRejected, UsageError
from assay.core.model import MEDIA_ONNX, MEDIA_TFLITE
from tests.conftest import SHARED_DATA, need
from tests.tinymodels import save_onnx

FOLDER = Path(canary.__file__).parent
FILES = {MEDIA_ONNX: FOLDER / "canary.onnx", MEDIA_TFLITE: FOLDER / "canary.tflite"}
MODULES = {MEDIA_ONNX: "onnxruntime", MEDIA_TFLITE: "ai_edge_litert"}


def test_tolerances_scale_with_the_outputs_and_widen_with_the_arithmetic() -> None:
    outputs = [np.float32([[-8.0, 2.0]]), np.float32([[1.0]])]
    assert golden.tolerance("fp32", outputs) == (1e-3, pytest.approx(8e-4))
    kinds = ("fp32", "fp16", "int8-safe", "int8")
    widths = [golden.tolerance(kind, outputs)[1] for kind in kinds]
    assert widths == sorted(widths) and widths[-1] == 2.0


def test_all_zero_outputs_still_have_a_tolerance() -> None:
    assert golden.tolerance("fp32", [np.zeros((2, 3), np.float32)])[1] == pytest.approx(1e-4)


@pytest.mark.parametrize("media", [MEDIA_ONNX, MEDIA_TFLITE])
def test_samples_run_one_by_one_and_come_back_together(media: str) -> None:
    need(module=MODULES[media])
    x = np.random.RandomState(0).randn(3, 1, 48, 48).astype(np.float32)
    run = golden.reference_runner(FILES[media], media)
    together = run(x)
    assert [o.shape for o in together] == [(3, 10)] and together[0].dtype == np.float32
    np.testing.assert_array_equal(run(x[1:2])[0], together[0][1:2])
    assert reference_version(media).partition(" ")[2]


@pytest.mark.parametrize("media", [MEDIA_ONNX, MEDIA_TFLITE])
@pytest.mark.parametrize("shape", [(1, 48, 47), (48, 48), (1, 1, 48, 48)])
def test_samples_of_another_shape_are_refused(media: str, shape: tuple[int, ...]) -> None:
    need(module=MODULES[media])
    run = golden.reference_runner(FILES[media], media)
    with pytest.raises(BadInputs, match=r"preprocessing"):
        run(np.zeros((2, *shape), np.float32))


@pytest.mark.parametrize("media", [MEDIA_ONNX, MEDIA_TFLITE])
@pytest.mark.parametrize("keep", [0, 5, 2_000, 100_000])
def test_cut_files_are_refused(tmp_path: Path, media: str, keep: int) -> None:
    need(module=MODULES[media])
    path = tmp_path / FILES[media].name
    path.write_bytes(FILES[media].read_bytes()[:keep])
    with pytest.raises(RuntimeRejected, match=path.name):
        golden.reference_runner(path, media)


def test_int8_inputs_and_outputs_are_quantised_by_their_details() -> None:
    need(module="ai_edge_litert")
    path = SHARED_DATA / "mlperf-tiny" / "pretrainedResnet_quant.tflite"
    need(path=path)
    whole = SHARED_DATA / "mlperf-tiny" / "pretrainedResnet.tflite"
    x = np.random.RandomState(0).randint(0, 256, (8, 32, 32, 3)).astype(np.float32)
    quantised = golden.reference_runner(path, MEDIA_TFLITE)(x)[0]
    full = golden.reference_runner(whole, MEDIA_TFLITE)(x)[0]
    assert quantised.dtype == np.float32
    np.testing.assert_allclose(quantised.sum(1), 1, atol=0.05)
    assert np.abs(quantised - full).mean() < 0.05
    assert (quantised.argmax(1) == full.argmax(1)).mean() >= 0.75


def onnx_of(path: Path, **inputs: tuple[int, list[int | str]]) -> Path:
    """A model that adds its inputs up, cast to float."""
    need(module="onnx")
    import onnx
    from onnx import TensorProto, helper

    casts = [helper.make_node("Cast", [name], [f"{name}_f"], to=1) for name in inputs]
    graph = helper.make_graph(
        [*casts, helper.make_node("Sum", [f"{name}_f" for name in inputs], ["y"])],
        "g",
        [helper.make_tensor_value_info(n, kind, dims) for n, (kind, dims) in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"a": (1, [1, 4]), "b": (1, [1, 4])}, r"2 inputs \(a, b\)"),
        ({"a": (1, [8, 4])}, "batch of 1"),
    ],
)
def test_models_that_cannot_be_fed_are_refused(
    tmp_path: Path, inputs: dict[str, tuple[int, list[int | str]]], says: str
) -> None:
    need(module="onnxruntime")
    path = onnx_of(tmp_path / "m.onnx", **inputs)
    with pytest.raises(BadInputs, match=says):
        golden.reference_runner(path, MEDIA_ONNX)(np.zeros((2, 4), np.float32))


def test_whole_numbers_of_a_dataset_reach_an_integer_input(tmp_path: Path) -> None:
    need(module="onnxruntime")
    run = golden.reference_runner(onnx_of(tmp_path / "m.onnx", a=(7, [1, 4])), MEDIA_ONNX)
    assert run(np.full((2, 4), 3.0, np.float32))[0].tolist() == [[3] * 4] * 2
    with pytest.raises(BadInputs, match="whole numbers"):
        run(np.full((2, 4), 0.5, np.float32))


def test_several_inputs_and_outputs_of_several_types_are_golden(tmp_path: Path) -> None:
    need(module="onnx")
    need(module="onnxruntime")
    import onnx
    from onnx import TensorProto, helper

    info = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Log", ["x"], ["log"]),
        helper.make_node("Add", ["ids", "ids"], ["twice"]),
        helper.make_node("Cast", ["x"], ["small"], to=TensorProto.UINT8),
        helper.make_node("Identity", ["word"], ["said"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [info("x", 1, ["N", 3]), info("ids", 7, ["N", 2]), info("word", 8, ["N", 1])],
        [
            info("log", 1, None),
            info("twice", 7, None),
            info("small", 2, None),
            info("said", 8, None),
        ],
    )
    path = tmp_path / "m.onnx"
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    samples = {
        "x": np.float32([[1, 2, 0], [4, 5, -6]]),
        "ids": np.int64([[2**60, 1], [3, 4]]),
        "word": np.array([["a"], ["b"]]),
    }
    found = golden.golden_arrays(open_reference(path, MEDIA_ONNX), samples, "fp32")
    assert np.isneginf(found["output_0"][0, 0, 2]) and np.isnan(found["output_0"][1, 0, 2])
    assert found["output_1"].dtype == np.int64 and found["output_1"][0, 0, 0] == 2**61
    assert found["output_3"].tolist() == [[["a"]], [["b"]]]
    rtol, atol = zip(*found["tolerances"].tolist(), strict=True)
    assert rtol == (1e-3, 0, 0, 0) and atol[1:] == (0, 1, 0) and 0 < atol[0] < 1e-3


def test_outputs_whose_shape_depends_on_the_data_have_one_golden_sample(tmp_path: Path) -> None:
    need(module="onnx")
    need(module="onnxruntime")
    import onnx
    from onnx import helper

    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("NonZero", ["x"], ["y"])],
        "g",
        [info("x", 1, [1, 4])],
        [info("y", 7, None)],
    )
    path = tmp_path / "m.onnx"
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    samples = {"x": np.float32([[1, 0, 0, 1], [1, 1, 1, 1]])}
    found = golden.golden_arrays(open_reference(path, MEDIA_ONNX), samples, "fp32")
    assert found["x"].shape == (1, 4) and found["output_0"].shape == (1, 2, 2)


def test_an_input_without_dimensions_is_fed_as_an_array(tmp_path: Path) -> None:
    need(module="onnx")
    need(module="onnxruntime")
    from onnx import TensorProto, helper

    tensors = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3]),
        helper.make_tensor_value_info("rate", TensorProto.INT64, []),
    ]
    nodes = [
        helper.make_node("Cast", ["rate"], ["factor"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "factor"], ["y"]),
    ]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])]
    path = save_onnx(tmp_path / "scalar.onnx", nodes, tensors, out)
    samples = {"x": np.ones((2, 3), np.float32), "rate": np.array([2, 5])}
    found = golden.golden_arrays(open_reference(path, MEDIA_ONNX), samples, "fp32")
    assert found["output_0"][:, 0, 0].tolist() == [2.0, 5.0]


def test_unsupported_operator_is_named(tmp_path: Path) -> None:
    need(module="onnxruntime")
    need(module="onnx")
    import onnx
    from onnx import TensorProto, helper

    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Frobnicate", ["x"], ["y"], domain="nowhere")],
        "g",
        [info("x", TensorProto.FLOAT, [1, 4])],
        [info("y", TensorProto.FLOAT, [1, 4])],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("nowhere", 1)]
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    with pytest.raises(RuntimeRejected, match="Frobnicate"):
        golden.reference_runner(path, MEDIA_ONNX)


def test_other_media_have_no_reference(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no reference runtime"):
        golden.reference_runner(tmp_path / "a", "model/other")
