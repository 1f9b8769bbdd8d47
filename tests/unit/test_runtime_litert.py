"""What is particular to LiteRT."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from assay.agent.runtimes import litert
from assay.agent.runtimes.litert import LiteRt
from assay.core.errors import RuntimeAbsent, RuntimeRejected
from assay.core.model import Absent, Fidelity, RuntimeSpec
from tests import anytflite
from tests.conftest import SHARED_DATA, need
from tests.tinymodels import tflite

SPEC = RuntimeSpec("litert")
RELU = ("RELU", [("x", [1, 4], "FLOAT32")], ("y", [1, 4], "FLOAT32"))


@pytest.fixture(autouse=True)
def _needs() -> None:
    need(module="ai_edge_litert")


def test_quantised_tensors_say_how() -> None:
    content = tflite("RELU", [("x", [1, 4], "INT8")], ("y", [1, 4], "INT8"), quantised=(0.5, -10))
    model = LiteRt.load(content, SPEC)
    (spec,) = model.inputs
    assert (spec.dtype, spec.scale, spec.zero_point) == ("int8", 0.5, -10)
    (output,) = model.run({"x": np.array([[-50, -10, 0, 127]], dtype=np.int8)})
    assert output.tolist() == [[-10, -10, 0, 127]]


def test_the_builtin_kernels_can_be_asked_for() -> None:
    model = LiteRt.load(tflite(*RELU), RuntimeSpec("litert", provider="builtin"))
    assert model.placement() == ("builtin: 1 operators (RELU x1)",)
    assert model.fallback() == ""


def test_operators_xnnpack_leaves_are_named_where_it_was_asked_for() -> None:
    # XNNPACK has no kernel for int32 addition.
    inputs = [("a", [4], "INT32"), ("b", [4], "INT32")]
    content = tflite("ADD", inputs, ("y", [4], "INT32"))
    assert LiteRt.load(content, RuntimeSpec("litert", provider="XNNPACK")).fallback() == "ADD x1"
    assert LiteRt.load(content, SPEC).fallback() == ""


def test_a_model_that_cannot_run_at_the_sizes_of_its_file_waits_for_its_inputs(
    tmp_path: Path,
) -> None:
    model = LiteRt.load(anytflite.pairing(tmp_path / "pairing.tflite"), SPEC)
    assert model.inputs[0].shape == (None, 8)
    rows = np.arange(16, dtype=np.float32).reshape(2, 8)
    for _ in range(2):
        assert model.run({"x": rows})[0].tolist() == rows.tolist()
    bound = model.bind([{"x": rows + 1}])
    assert bound.stages is not None
    bound.stages[0]()
    bound.calls[0]()
    assert bound.outputs(0)[0].tolist() == (rows + 1).tolist()
    assert "RESHAPE" in str(model.placement()) or "XNNPACK" in str(model.placement())
    with pytest.raises(RuntimeRejected, match="LiteRT refused to bind"):
        model.bind([{"x": rows[:1]}])


def test_a_build_without_the_inner_object_is_called_by_its_public_face() -> None:
    library, _ = litert._library()

    class Outer:
        """The interpreter without its C++ object in reach."""

        def __init__(self) -> None:
            self._real = library.Interpreter(model_content=tflite(*RELU), num_threads=1)
            for name in dir(self._real):
                if not name.startswith("__") and name != "_interpreter":
                    setattr(self, name, getattr(self._real, name))

    outer = Outer()
    outer.allocate_tensors()  # type: ignore[attr-defined]
    bound = litert.LiteRtModel(outer, "x", SPEC).bind([{"x": np.ones((1, 4), dtype=np.float32)}])
    assert bound.fidelity is Fidelity.PUBLIC_API and bound.stages is not None
    bound.stages[0]()
    bound.calls[0]()
    assert bound.outputs(0)[0].tolist() == [[1, 1, 1, 1]]


def test_the_old_package_is_the_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    real = sys.modules["ai_edge_litert.interpreter"]
    old = ModuleType("tflite_runtime")
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    monkeypatch.setitem(sys.modules, "tflite_runtime", old)
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", real)
    assert LiteRt.version().startswith("tflite-runtime ")
    assert not isinstance(LiteRt.probe(), Absent)


def test_a_package_that_imports_and_then_fails_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        """tflite-runtime 2.14 under numpy 2."""

        def __init__(self, **_given: object) -> None:
            raise RuntimeError("numpy.core.multiarray failed to import")

    monkeypatch.setattr(sys.modules["ai_edge_litert.interpreter"], "Interpreter", Broken)
    found = LiteRt.probe()
    assert isinstance(found, Absent) and "multiarray" in found.reason


def test_no_package_at_all_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ai_edge_litert.interpreter", "tflite_runtime.interpreter"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(RuntimeAbsent, match=r"pip install 'assay-fleet\[litert\]'"):
        LiteRt.version()


def test_strings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeRejected, match="only numbers"):
        LiteRt.load(tflite("RELU", [("x", [1], "STRING")], ("y", [1], "STRING")), SPEC)


@pytest.mark.parametrize(
    ("name", "dtype", "precision"),
    [
        ("pretrainedResnet.tflite", "float32", "float32"),
        ("pretrainedResnet_quant.tflite", "int8", "int8"),
    ],
)
def test_the_models_of_mlperf_tiny(name: str, dtype: str, precision: str) -> None:
    path = SHARED_DATA / "mlperf-tiny" / name
    need(path=path)
    model = LiteRt.load(path, SPEC)
    (x,), (y,) = model.inputs, model.outputs
    assert (x.dtype, x.shape, y.shape) == (dtype, (None, 32, 32, 3), (None, 10))
    assert model.precision == precision
    image = np.random.default_rng(0).integers(0, 127, (1, 32, 32, 3)).astype(dtype)
    (scores,) = model.run({x.name: image})
    probabilities = (scores.astype(float) - y.zero_point) * (y.scale or 1)
    assert probabilities.sum() == pytest.approx(1, abs=0.02)
