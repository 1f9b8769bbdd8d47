"""Inputs made up from declared shapes fit the model they were made for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from assay.agent.cli.bench import bench_command
from assay.agent.measuring.synthetic import dims_of, write_synthetic
from assay.agent.worker.feeds import Dataset, load_arrays
from assay.core.errors import UsageError
from assay.core.preprocess import Preprocessing
from assay.core.tensors import TensorSpec

NO_DIMS: dict[str, int] = {}


@pytest.mark.parametrize(
    "spec",
    [
        TensorSpec("x", "float32", (1, 3, 8, 8)),
        TensorSpec("x", "float32", (None, 3, 8, 8), ("N", "", "", "")),
        TensorSpec("x", "float16", (4, 8)),
        TensorSpec("x", "float32", (16,)),
        TensorSpec("x", "float32", ()),
        TensorSpec("serving_default_x:0", "int8", (1, 4), scale=0.5, zero_point=-3),
        TensorSpec("images/in", "uint8", (1, 4, 4, 3)),
        TensorSpec("ids", "int64", (1, 12)),
        TensorSpec("mask", "bool", (1, 12)),
        TensorSpec("file", "float64", (2, 2)),
    ],
    ids=str,
)
def test_samples_fit_the_input_they_were_made_for(spec: TensorSpec, tmp_path: Path) -> None:
    path = tmp_path / "in.npz"
    write_synthetic(path, [spec], NO_DIMS, seed=1, samples=5)
    data = Dataset(load_arrays(path), Preprocessing(), [spec])
    feed = data.feed([0] * data.batch, data.batch)[spec.name]
    assert feed.dtype == spec.dtype and feed.ndim == len(spec.shape)
    assert all(size in (None, got) for size, got in zip(spec.shape, feed.shape, strict=True))
    if spec.dtype == "int64":
        assert set(np.unique(feed)) <= {0, 1}


def test_a_seed_makes_the_same_samples(tmp_path: Path) -> None:
    spec = TensorSpec("x", "float32", (1, 9))
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_synthetic(tmp_path / name, [spec], NO_DIMS, seed)
    a, b, c = (load_arrays(tmp_path / name)["x"] for name in "abc")
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_open_dimensions_get_sizes_by_name_unless_they_are_given(tmp_path: Path) -> None:
    spec = TensorSpec("x", "float32", (None, 3, None, None), ("N", "", "height", "W"))
    sizes, _ = write_synthetic(tmp_path / "in.npz", [spec], {"height": 32}, 1, samples=2)
    assert load_arrays(tmp_path / "in.npz")["x"].shape == (2, 3, 32, 224)
    assert str(sizes) == "height=32, W=224 (proposed)" and sizes.batched
    dims = dims_of([spec], {"x": (1, 3, 32, 16)})
    assert dims == {"height": 32, "W": 16}


@pytest.mark.parametrize(
    ("shapes", "why"),
    [
        ({"y": (1,)}, "no such input"),
        ({"x": (1, 2, 3)}, "3 sizes given"),
        ({"x": (1, 8)}, "not a shape of"),
    ],
)
def test_a_shape_that_is_not_the_models_is_named(
    shapes: dict[str, tuple[int, ...]], why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        dims_of([TensorSpec("x", "float32", (None, 9))], shapes)


def test_a_dimension_the_model_has_not_is_named(tmp_path: Path) -> None:
    spec = TensorSpec("x", "float32", (None, None), ("batch", "features"))
    with pytest.raises(UsageError, match=r"dims.length: .*it has batch, features"):
        write_synthetic(tmp_path / "in.npz", [spec], {"length": 3}, 1)


@pytest.mark.parametrize("size", [("--dim", "batch=4"), ("--shape", "x=1,3")])
def test_sizes_do_not_go_with_inputs_that_have_their_own(
    size: tuple[str, str], tmp_path: Path
) -> None:
    model, inputs = tmp_path / "m.onnx", tmp_path / "x.npz"
    for path in (model, inputs):
        path.write_bytes(b"")
    done = CliRunner().invoke(bench_command, [str(model), "--inputs", str(inputs), *size])
    assert isinstance(done.exception, UsageError) and "made up" in str(done.exception)
