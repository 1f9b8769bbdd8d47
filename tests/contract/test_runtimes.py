"""Every runtime keeps one contract: probe, load, bind, run, refuse."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from assay.agent.runtimes import names, runtime
from assay.agent.runtimes.base import LoadedModel, Runtime
from assay.core.errors import BadInputs, RuntimeAbsent, RuntimeRejected
from assay.core.model import Absent, Fidelity, RuntimeFacts, RuntimeSpec
from assay.core.ncnn_file import NcnnFile, NcnnTensor, pack
from tests.conftest import need
from tests.tinymodels import save_onnx, tflite


@dataclass(frozen=True)
class Kind:
    """How a runtime is fed in these tests."""

    name: str
    module: str
    two_inputs: Callable[[Path], Path]
    open_batch: Callable[[Path], Path]
    fidelity: Fidelity = Fidelity.RAW_BINDING
    batch: int | None = None

    @property
    def cls(self) -> type[Runtime]:
        need(module=self.module)
        return runtime(self.name)

    def load(self, path: Path, **spec: object) -> LoadedModel:
        return self.cls.load(path, RuntimeSpec(self.name, **spec))  # type: ignore[arg-type]


def onnx_sum(folder: Path) -> Path:
    need(module="onnx")
    from onnx import TensorProto, helper

    tensors = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in "aby"]
    return save_onnx(
        folder / "sum.onnx", [helper.make_node("Add", ["a", "b"], ["y"])], tensors[:2], tensors[2:]
    )


def tflite_sum(folder: Path) -> Path:
    path = folder / "sum.tflite"
    inputs = [("a", [1, 4], "FLOAT32"), ("b", [1, 4], "FLOAT32")]
    path.write_bytes(tflite("ADD", inputs, ("y", [1, 4], "FLOAT32")))
    return path


def onnx_open(folder: Path) -> Path:
    need(module="onnx")
    from onnx import TensorProto, helper

    tensors = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 4]) for n in "xy"]
    return save_onnx(
        folder / "open.onnx", [helper.make_node("Relu", ["x"], ["y"])], tensors[:1], tensors[1:]
    )


def tflite_open(folder: Path) -> Path:
    path = folder / "open.tflite"
    path.write_bytes(
        tflite("RELU", [("x", [1, 4], "FLOAT32")], ("y", [1, 4], "FLOAT32"), open_batch=True)
    )
    return path


def ncnn_sum(folder: Path) -> Path:
    param = (
        "7767517\n3 3\nInput in0 0 1 in0\nInput in1 0 1 in1\nBinaryOp add 2 1 in0 in1 out0 0=0\n"
    )
    return ncnn_file(folder / "sum.ncnn", param, {"a": "in0", "b": "in1"})


def ncnn_relu(folder: Path) -> Path:
    param = "7767517\n2 2\nInput in0 0 1 in0\nReLU relu 1 1 in0 out0 0=0.0\n"
    return ncnn_file(folder / "relu.ncnn", param, {"x": "in0"})


def ncnn_file(path: Path, param: str, blobs: dict[str, str]) -> Path:
    inputs = tuple(NcnnTensor(name, blob, (1, 4), True) for name, blob in blobs.items())
    path.write_bytes(
        pack(NcnnFile(param.encode(), b"", inputs, (NcnnTensor("y", "out0", (1, 4), True),)))
    )
    return path


def torch_sum(folder: Path) -> Path:
    need(module="torch")
    import torch

    class Sum(torch.nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return a + b

    example = (torch.zeros(1, 4), torch.zeros(1, 4))
    torch.export.save(torch.export.export(Sum(), example), str(folder / "sum.pt2"))
    return folder / "sum.pt2"


def torch_open(folder: Path) -> Path:
    need(module="torch")
    import torch

    class Relu(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x)

    program = torch.export.export(
        Relu(), (torch.zeros(2, 4),), dynamic_shapes=({0: torch.export.Dim("n")},)
    )
    torch.export.save(program, str(folder / "open.pt2"))
    return folder / "open.pt2"


KINDS = (
    Kind("onnxruntime", "onnxruntime", onnx_sum, onnx_open),
    Kind("litert", "ai_edge_litert", tflite_sum, tflite_open),
    Kind("ncnn", "ncnn", ncnn_sum, ncnn_relu, Fidelity.PUBLIC_API, batch=1),
    Kind("torch", "torch", torch_sum, torch_open, Fidelity.PUBLIC_API),
)
OPEN_BATCH = [kind for kind in KINDS if kind.batch is None]
FIXED_BATCH = [kind for kind in KINDS if kind.batch is not None]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


def floats(*values: float) -> np.ndarray:
    return np.array([values], dtype=np.float32)


def test_the_contract_covers_every_runtime() -> None:
    assert {kind.name for kind in KINDS} == set(names())


def test_a_probe_is_a_real_inference(kind: Kind) -> None:
    facts = kind.cls.probe()
    assert isinstance(facts, RuntimeFacts)
    assert facts.name == kind.name and facts.version == kind.cls.version() and facts.providers


def test_a_probe_that_computes_nonsense_is_absent(
    kind: Kind, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = kind.two_inputs(tmp_path).read_bytes()
    monkeypatch.setattr(kind.cls, "one_operator_model", classmethod(lambda cls: other))
    assert isinstance(kind.cls.probe(), Absent)


def test_the_one_operator_model_has_one_operator(kind: Kind) -> None:
    model = kind.cls.load(kind.cls.one_operator_model(), RuntimeSpec(kind.name))
    assert [str(spec) for spec in model.inputs] == ["x float32[4]"]
    assert len(model.placement()) == 1


def test_placement_names_every_operator_and_where_it_runs(kind: Kind, tmp_path: Path) -> None:
    model = kind.load(kind.two_inputs(tmp_path))
    (line,) = model.placement()
    if line in kind.cls.probe().providers:  # type: ignore[union-attr]
        return  # onnxruntime before 1.24 does not tell more
    told = re.fullmatch(r"[\w ]+: (\d+) (?:operators|layers) \((.+)\)", line)
    assert told is not None, line
    counts = [int(each.rpartition(" x")[2]) for each in told[2].split(", ")]
    assert sum(counts) == int(told[1]) == 1
    assert re.search("add|binary", told[2], re.IGNORECASE)


def test_bound_queries_compute_what_run_does(kind: Kind, tmp_path: Path) -> None:
    model = kind.load(kind.two_inputs(tmp_path))
    feeds = [{"a": floats(i, 1, 2, 3), "b": floats(10, 20, 30, 40 * i)} for i in range(5)]
    bound = model.bind(feeds)
    assert bound.fidelity is kind.fidelity and len(bound.calls) == 5
    for i in (0, 3, 1, 4, 2, 4):
        if bound.stages is not None:
            bound.stages[i]()
        bound.calls[i]()
        (found,), (wanted,) = bound.outputs(i), model.run(feeds[i])
        np.testing.assert_array_equal(found, wanted)
        np.testing.assert_array_equal(found, feeds[i]["a"] + feeds[i]["b"])


def test_outputs_are_copies(kind: Kind, tmp_path: Path) -> None:
    model = kind.load(kind.open_batch(tmp_path))
    bound = model.bind([{"x": floats(1, 1, 1, 1)}, {"x": floats(2, 2, 2, 2)}])
    kept = []
    for i in range(2):
        if bound.stages is not None:
            bound.stages[i]()
        bound.calls[i]()
        kept.append(bound.outputs(i)[0])
    assert [array[0, 0] for array in kept] == [1, 2]


def test_binding_runs_nothing(kind: Kind, tmp_path: Path) -> None:
    bound = kind.load(kind.open_batch(tmp_path)).bind([{"x": floats(5, 5, 5, 5)}])
    # An output buffer that holds the answer before the first call would hide a failed call.
    if bound.stages is None:
        assert not np.any(bound.outputs(0)[0] == 5)


@pytest.mark.parametrize("kind", FIXED_BATCH, ids=lambda kind: kind.name)
def test_another_batch_than_it_was_made_for_is_refused(kind: Kind, tmp_path: Path) -> None:
    model = kind.load(kind.open_batch(tmp_path))
    assert model.inputs[0].shape == (kind.batch, 4)
    with pytest.raises(RuntimeRejected, match="converted for x"):
        model.bind([{"x": np.zeros((3, 4), dtype=np.float32)}])


@pytest.mark.parametrize("kind", OPEN_BATCH, ids=lambda kind: kind.name)
def test_an_open_batch_takes_any_size_and_bound_queries_survive_it(
    kind: Kind, tmp_path: Path
) -> None:
    model = kind.load(kind.open_batch(tmp_path))
    assert model.inputs[0].shape == (None, 4)
    batch = np.arange(12, dtype=np.float32).reshape(3, 4)
    bound = model.bind([{"x": batch}])
    (single,) = model.run({"x": floats(-1, 0, 1, 2)})
    assert single.tolist() == [[0, 0, 1, 2]]
    if bound.stages is not None:
        bound.stages[0]()
    bound.calls[0]()
    assert bound.outputs(0)[0].shape == (3, 4)


def test_wrong_input_names_are_told(kind: Kind, tmp_path: Path) -> None:
    model = kind.load(kind.two_inputs(tmp_path))
    with pytest.raises(BadInputs, match="the model takes"):
        model.run({"a": floats(1, 2, 3, 4)})
    with pytest.raises(BadInputs, match="the model takes"):
        model.bind([{"a": floats(1, 2, 3, 4), "c": floats(1, 2, 3, 4)}])


def test_a_shape_the_model_does_not_take_is_refused(kind: Kind, tmp_path: Path) -> None:
    model = kind.load(kind.two_inputs(tmp_path))
    wrong = np.zeros((1, 5), dtype=np.float32)
    with pytest.raises(RuntimeRejected):
        model.run({"a": wrong, "b": wrong})


@pytest.mark.parametrize("content", [b"", b"rubbish" * 50, bytes(64)])
def test_rubbish_is_refused(kind: Kind, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(content)
    with pytest.raises(RuntimeRejected, match="refused the model"):
        kind.load(path)


def test_a_truncated_file_is_refused(kind: Kind, tmp_path: Path) -> None:
    path = kind.two_inputs(tmp_path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(RuntimeRejected):
        kind.load(path)


def test_what_is_not_here_is_absent(kind: Kind, tmp_path: Path) -> None:
    path = kind.open_batch(tmp_path)
    with pytest.raises(RuntimeAbsent, match="NpuOfTomorrow"):
        kind.load(path, provider="NpuOfTomorrow")
    with pytest.raises(RuntimeAbsent, match="this device has"):
        kind.load(path, version="0.1")


def test_the_start_of_a_version_is_enough(kind: Kind, tmp_path: Path) -> None:
    found = kind.cls.version()
    major, minor, *_ = found.split(".")
    assert kind.load(kind.open_batch(tmp_path), version=f"{major}.{minor}").runtime_version == found


def test_an_option_it_does_not_know_is_named(kind: Kind, tmp_path: Path) -> None:
    with pytest.raises(RuntimeRejected, match="turbo"):
        kind.load(kind.open_batch(tmp_path), options={"turbo": "on"})


def test_no_fallback_is_claimed_where_no_provider_was_asked_for(kind: Kind, tmp_path: Path) -> None:
    assert kind.load(kind.open_batch(tmp_path)).fallback() == ""


def test_it_can_be_closed_twice(kind: Kind, tmp_path: Path) -> None:
    model = kind.load(kind.open_batch(tmp_path))
    model.bind([{"x": floats(1, 2, 3, 4)}])
    model.close()
    model.close()


def test_torch_records_no_gradients_and_leaves_the_switch_alone(tmp_path: Path) -> None:
    need(module="torch")
    import torch

    class Weighted(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.weight

    program = torch.export.export(Weighted(), (torch.zeros(1, 4),))
    torch.export.save(program, str(tmp_path / "weighted.pt2"))
    made: list[torch.Tensor] = []
    model = KINDS[-1].load(tmp_path / "weighted.pt2")
    model._module.register_forward_hook(lambda *seen: made.append(seen[-1]))  # type: ignore[attr-defined]
    model.run({"x": floats(1, 2, 3, 4)})
    assert torch.is_grad_enabled()
    assert [output.requires_grad for output in made] == [False]


def test_torch_takes_no_package_of_native_code(tmp_path: Path) -> None:
    path = torch_sum(tmp_path)
    with zipfile.ZipFile(path, "a") as file:
        root = file.namelist()[0].partition("/")[0]
        file.writestr(f"{root}/data/aotinductor/model/wrapper.so", b"\x7fELF")
    with pytest.raises(RuntimeRejected, match="AOTInductor package"):
        KINDS[-1].load(path)


def test_an_unknown_runtime_is_absent() -> None:
    with pytest.raises(RuntimeAbsent, match=r"known: onnxruntime, litert, ncnn, torch"):
        runtime("tensorrt")
