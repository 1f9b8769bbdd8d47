"""Conversion to ncnn: believed after a comparison, refused with the reason otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from assay.controller.inspection import golden, inspect
from assay.controller.variants import ncnn
from assay.controller.variants.recipe import load_recipe
from assay.core.errors import BuildFailed, SpecError
from assay.core.model import MEDIA_NCNN, MEDIA_ONNX
from assay.core.ncnn_file import NcnnFile, NcnnTensor, unpack
from tests.conftest import need
from tests.tinymodels import save_mlp, save_onnx

# TorchScript is what pnnx reads besides ONNX; torch's word that it will go is known.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


@pytest.fixture(autouse=True)
def _tools() -> None:
    for module in ("pnnx", "ncnn", "onnx", "onnxruntime", "torch"):
        need(module=module)


def small_network() -> tuple[object, object]:
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(8 * 4 * 4, 10),
    )
    return net.eval(), torch.zeros(1, 1, 8, 8)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The small network as a file of ncnn's, and what was said of it."""
    for module in ("pnnx", "ncnn", "onnx", "onnxruntime", "torch"):
        need(module=module)
    path = tmp_path_factory.mktemp("converted") / "float.ncnn"
    return path, ncnn.to_ncnn(*small_network(), path)  # type: ignore[arg-type]


def test_a_network_becomes_one_file_that_gives_what_onnxruntime_gives(
    converted: tuple[Path, str], tmp_path: Path
) -> None:
    from assay.controller.variants import export

    path, told = converted
    onnx = tmp_path / "float.onnx"
    net, example = small_network()
    assert told.startswith("batch 1, pnnx") and "from onnx" in told
    export.to_onnx(net, example, onnx)  # type: ignore[arg-type]
    x = np.random.default_rng(5).normal(size=(6, 1, 8, 8)).astype(np.float32)
    (found,), (wanted,) = (
        golden.reference_runner(file, media)(x)
        for file, media in ((path, MEDIA_NCNN), (onnx, MEDIA_ONNX))
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    file = unpack(path.read_bytes())
    assert [t.name for t in (*file.inputs, *file.outputs)] == ["x", "logits"]


def test_the_same_network_gives_the_same_bytes(converted: tuple[Path, str], tmp_path: Path) -> None:
    again = tmp_path / "float.ncnn"
    ncnn.to_ncnn(*small_network(), again)  # type: ignore[arg-type]
    assert again.read_bytes() == converted[0].read_bytes()


def test_what_it_costs_is_read_from_it(converted: tuple[Path, str]) -> None:
    path, (net, _) = converted[0], small_network()
    cost = inspect.static_cost(path, MEDIA_NCNN)
    assert cost.parameters == sum(p.numel() for p in net.parameters())  # type: ignore[attr-defined]
    assert cost.macs is None and cost.operators["Convolution"] == 1
    assert inspect.precision(path, MEDIA_NCNN) == "fp32"


def quantised(folder: Path) -> Path:
    from onnx import TensorProto, helper, numpy_helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
    weights = [
        numpy_helper.from_array(np.array(0.1, dtype=np.float32), "scale"),
        numpy_helper.from_array(np.array(0, dtype=np.int8), "zero"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    return save_onnx(folder / "qdq.onnx", nodes, [x], [y], weights)


def test_operators_pnnx_lets_pass_are_caught_by_the_load(tmp_path: Path) -> None:
    # pnnx ends with status 0 on quantised graphs.
    with pytest.raises(BuildFailed, match=r"no ncnn file of qdq\.onnx: from onnx: "):
        ncnn.convert(quantised(tmp_path), tmp_path / "out.ncnn")
    assert not (tmp_path / "out.ncnn").exists()


def test_torchscript_is_tried_where_the_onnx_form_is_not_understood(tmp_path: Path) -> None:
    import torch

    class Same(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.round(x / 0.1).clamp(-128, 127) * 0.1

    def trace(to: Path) -> None:
        torch.jit.trace(Same(), torch.zeros(1, 4)).save(str(to))

    told = ncnn.convert(quantised(tmp_path), tmp_path / "out.ncnn", trace)
    assert "from torchscript" in told


def test_a_conversion_that_computes_something_else_is_no_file(tmp_path: Path) -> None:
    import torch

    def other(to: Path) -> None:
        torch.jit.trace(torch.nn.ReLU(), torch.zeros(1, 4)).save(str(to))

    with pytest.raises(BuildFailed, match=r"from torchscript: ncnn's outputs are off by"):
        ncnn.convert(quantised(tmp_path), tmp_path / "out.ncnn", other)


def test_a_net_that_kills_ncnn_kills_only_its_own_process(tmp_path: Path) -> None:
    from assay.controller.variants.ncnn import _compare, _signature
    from assay.core.ncnn_file import pack

    onnx = save_mlp(tmp_path / "m.onnx", batch=1)
    # More weights are promised than ncnn can hold memory for.
    param = b"7767517\n2 2\nInput in0 0 1 in0\nInnerProduct f 1 1 in0 out0 0=10 1=0 2=2000000000\n"
    broken = NcnnFile(
        param,
        b"\0\0\0\0",
        (NcnnTensor("x", "in0", (1, 16), True),),
        (NcnnTensor("scores", "out0", (1, 10), True),),
    )
    (tmp_path / "b.ncnn").write_bytes(pack(broken))
    with pytest.raises(BuildFailed):
        _compare(tmp_path / "b.ncnn", _signature(onnx))


def test_integer_inputs_and_open_sizes_are_named(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    tensors = [helper.make_tensor_value_info(n, TensorProto.INT64, [1, 4]) for n in "xy"]
    path = save_onnx(
        tmp_path / "i.onnx", [helper.make_node("Abs", ["x"], ["y"])], tensors[:1], tensors[1:]
    )
    with pytest.raises(BuildFailed, match=r"its input x is tensor\(int64\)"):
        ncnn.convert(path, tmp_path / "out.ncnn")


def test_a_recipe_with_file_steps_has_no_ncnn_form(tmp_path: Path) -> None:
    text = """
name = "q"
model = "resnet8"
formats = ["onnx", "ncnn"]
steps = [{ use = "train", samples = 1000 }, { use = "fp16" }]
"""
    (tmp_path / "q.toml").write_text(text)
    with pytest.raises(SpecError, match=r"steps\[1\]: fp16 has no ncnn form"):
        load_recipe(tmp_path / "q.toml")
