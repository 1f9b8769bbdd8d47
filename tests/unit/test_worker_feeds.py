"""Stored samples become what a model takes, or an error that says what does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.agent.worker.feeds import Dataset, choose_rows, fit, load_arrays
from assay.core.errors import BadInputs
from assay.core.preprocess import Preprocessing
from assay.core.tensors import TensorSpec

IMAGE = TensorSpec("image", "float32", (None, 3, 8, 8))


def dataset(spec: TensorSpec, x: np.ndarray, preprocessing: str = "{}") -> Dataset:
    return Dataset({"x": x}, Preprocessing.from_json(preprocessing), [spec])


def test_bytes_go_through_preprocessing() -> None:
    x = np.full((4, 8, 8, 3), 255, dtype=np.uint8)
    data = dataset(IMAGE, x, '{"transpose": [2, 0, 1], "scale": 0.5}')
    feed = data.feed([0, 1], 2)["image"]
    assert feed.shape == (2, 3, 8, 8) and feed.dtype == np.float32
    assert feed.flags.c_contiguous and np.all(feed == 127.5)


def test_bytes_go_through_preprocessing_also_where_the_input_is_called_x() -> None:
    spec = TensorSpec("x", "float32", (None, 1, 2, 2))
    data = dataset(spec, np.full((3, 2, 2), 255, dtype=np.uint8), '{"scale": 0.5}')
    assert np.all(data.feed([0], 1)["x"] == 127.5)


def test_an_input_called_x_goes_through_preprocessing_too() -> None:
    x = np.full((2, 4), 255, dtype=np.uint8)
    for name in ("x", "input_1"):
        data = dataset(TensorSpec(name, "float32", (None, 4)), x, '{"scale": 0.00392156862745098}')
        assert np.allclose(data.feed([0], 1)[name], 1.0)


def test_channels_move_only_where_nothing_else_fits() -> None:
    x = np.arange(2 * 8 * 8 * 3, dtype=np.float32).reshape(2, 8, 8, 3)
    feed = dataset(IMAGE, x).feed([1], 1)["image"]
    np.testing.assert_array_equal(feed[0], np.moveaxis(x[1], -1, 0))


def test_dimensions_of_one_come_and_go() -> None:
    spec = TensorSpec("x", "float32", (1, 28, 28, 1))
    feed = dataset(spec, np.zeros((5, 1, 28, 28), dtype=np.float32)).feed([2], 1)
    assert feed["x"].shape == (1, 28, 28, 1)


def test_an_input_without_a_batch_takes_one_sample() -> None:
    spec = TensorSpec("x", "float32", (16,))
    data = dataset(spec, np.zeros((5, 16), dtype=np.float32))
    assert data.feed([2], 1)["x"].shape == (16,)
    assert data.batch == 1 and not data.takes(2)


def test_a_fixed_batch_is_found() -> None:
    data = dataset(TensorSpec("x", "float32", (4, 16)), np.zeros((9, 16), dtype=np.float32))
    assert data.batch == 4
    with pytest.raises(BadInputs, match="samples_per_query = 4"):
        data.feed([0], 1)


def test_quantised_inputs_take_real_values() -> None:
    spec = TensorSpec("x", "int8", (None, 3), scale=0.5, zero_point=-10)
    feed = dataset(spec, np.array([[0.0, 1.0, 1000.0]])).feed([0], 1)
    assert feed["x"].tolist() == [[-10, -8, 127]]


def test_integers_stay_integers_where_nothing_is_to_be_done() -> None:
    spec = TensorSpec("ids", "int64", (None, 2))
    feed = dataset(spec, np.array([[2**53 + 1, 7]])).feed([0], 1)
    assert feed["ids"].tolist() == [[2**53 + 1, 7]]


def test_fractions_do_not_become_integers_silently() -> None:
    spec = TensorSpec("ids", "int64", (None, 1))
    with pytest.raises(BadInputs, match="whole numbers"):
        dataset(spec, np.array([[0.5]])).feed([0], 1)


def test_values_beyond_a_type_are_refused() -> None:
    spec = TensorSpec("x", "uint8", (None, 1))
    with pytest.raises(BadInputs, match="range"):
        dataset(spec, np.array([[300]])).feed([0], 1)


def test_several_inputs_come_by_name() -> None:
    specs = [TensorSpec("a", "float32", (None, 2)), TensorSpec("b", "int32", (None, 1))]
    arrays = {"a": np.zeros((3, 2), dtype=np.float32), "b": np.ones((3, 1), dtype=np.int32)}
    data = Dataset(arrays, Preprocessing(), specs)
    assert {name: array.shape for name, array in data.feed([0, 2], 2).items()} == {
        "a": (2, 2),
        "b": (2, 1),
    }


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"x": np.zeros((3, 2))}, "name its arrays like the model's inputs"),
        ({"a": np.zeros((3, 2)), "b": np.zeros((4, 2))}, "equal counts"),
        ({"a": np.zeros((0, 2)), "b": np.zeros((0, 2))}, "equal counts"),
        ({"a": np.array(["u"]), "b": np.array(["v"])}, "numbers"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(arrays: dict[str, np.ndarray], why: str) -> None:
    specs = [TensorSpec(name, "float32", (None, 2)) for name in ("a", "b")]
    with pytest.raises(BadInputs, match=why):
        Dataset(arrays, Preprocessing(), specs)


def test_labels_must_be_one_class_each() -> None:
    arrays = {"x": np.zeros((3, 16)), "y": np.zeros((3, 10), dtype=np.int64)}
    with pytest.raises(BadInputs, match="one class each"):
        Dataset(arrays, Preprocessing(), [TensorSpec("x", "float32", (None, 16))])


@given(st.integers(1, 200), st.integers(1, 40), st.integers(0, 5))
def test_rows_are_distinct_while_there_are_enough(n: int, batch: int, seed: int) -> None:
    rows = choose_rows(n, batch, 1, seed)
    flat = [row for group in rows for row in group]
    assert all(len(group) == batch for group in rows) and set(flat) <= set(range(n))
    assert rows == choose_rows(n, batch, 1, seed)
    if len(flat) <= n:
        assert len(set(flat)) == len(flat)


def test_large_samples_bound_how_many_are_held() -> None:
    assert len(choose_rows(1000, 1, 16 << 20, 0)) == 4
    assert len(choose_rows(1000, 1, 1 << 30, 0)) == 1


def test_a_shape_that_fits_nothing_is_named() -> None:
    with pytest.raises(BadInputs, match=r"\(1, 5\) do not fit input image float32\[\?,3,8,8\]"):
        fit(np.zeros((1, 5)), IMAGE, 1)


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + bytes(18), b"not a zip"])
def test_a_file_that_is_no_npz_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "in.npz"
    path.write_bytes(content)
    if content.startswith(b"PK"):
        assert load_arrays(path) == {}
        return
    with pytest.raises(BadInputs, match=r"in\.npz is not an \.npz"):
        load_arrays(path)
