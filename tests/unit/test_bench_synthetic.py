"""Inputs made up from declared shapes fit the model they were made for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from assay.agent.measuring.synthetic import write_synthetic
from assay.agent.runtimes.base import TensorSpec
from assay.agent.worker.feeds import Dataset, load_arrays
from assay.core.errors import UsageError
from assay.core.preprocess import Preprocessing

NO_SHAPES: dict[str, tuple[int, ...]] = {}


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
    write_synthetic(path, [spec], NO_SHAPES, seed=1, samples=5)
    data = Dataset(load_arrays(path), Preprocessing(), [spec])
    feed = data.feed([0] * data.batch, data.batch)[spec.name]
    assert feed.dtype == spec.dtype and feed.ndim == len(spec.shape)
    assert all(size in (None, got) for size, got in zip(spec.shape, feed.shape, strict=True))
    if spec.dtype == "int64":
        assert set(np.unique(feed)) <= {0, 1}


def test_a_seed_makes_the_same_samples(tmp_path: Path) -> None:
    spec = TensorSpec("x", "float32", (1, 9))
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_synthetic(tmp_path / name, [spec], NO_SHAPES, seed)
    a, b, c = (load_arrays(tmp_path / name)["x"] for name in "abc")
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_open_dimensions_have_to_be_given(tmp_path: Path) -> None:
    spec = TensorSpec("x", "float32", (None, 3, None, None), ("N", "", "H", "W"))
    with pytest.raises(UsageError, match=r"--shape x=8,3,8,8"):
        write_synthetic(tmp_path / "in.npz", [spec], NO_SHAPES, 1)
    write_synthetic(tmp_path / "in.npz", [spec], {"x": (1, 3, 32, 16)}, 1, samples=2)
    assert load_arrays(tmp_path / "in.npz")["x"].shape == (2, 3, 32, 16)


@pytest.mark.parametrize(
    ("shapes", "why"), [({"y": (1,)}, "no such input"), ({"x": (1, 2, 3)}, "3 sizes given")]
)
def test_a_shape_that_is_not_the_models_is_named(
    shapes: dict[str, tuple[int, ...]], why: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=why):
        write_synthetic(tmp_path / "in.npz", [TensorSpec("x", "float32", (1, 9))], shapes, 1)
