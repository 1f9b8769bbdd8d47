"""Preprocessing: from stored samples to model inputs."""

from __future__ import annotations

import numpy as np
import pytest

from assay.core.errors import BadInputs, SpecError
from assay.core.preprocess import Preprocessing

IMAGES = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4)


def test_empty_object_only_makes_float32() -> None:
    out = Preprocessing.from_json("{}").apply(IMAGES)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, IMAGES.astype(np.float32))


def test_scale_then_mean_then_std() -> None:
    steps = Preprocessing.from_json('{"scale": 0.5, "mean": 1, "std": 4}')
    np.testing.assert_array_equal(steps.apply(IMAGES), (IMAGES * np.float32(0.5) - 1) / 4)


def test_shape_adds_a_channel_and_pad_widens_with_raw_zeros() -> None:
    steps = Preprocessing.from_json(
        '{"shape": [1, 4, 4], "pad": [[0, 0], [2, 2], [1, 1]], "mean": 5}'
    )
    out = steps.apply(IMAGES)
    assert out.shape == (2, 1, 8, 6)
    assert out[0, 0, 0, 0] == -5
    np.testing.assert_array_equal(out[:, 0, 2:6, 1:5], IMAGES.astype(np.float32) - 5)


def test_transpose_orders_the_axes_of_a_sample() -> None:
    hwc = np.arange(1 * 2 * 3 * 4, dtype=np.uint8).reshape(1, 2, 3, 4)
    out = Preprocessing.from_json('{"transpose": [2, 0, 1]}').apply(hwc)
    np.testing.assert_array_equal(out, hwc.transpose(0, 3, 1, 2))
    assert out.flags.c_contiguous


def test_lists_run_along_the_channel_axis() -> None:
    chw = np.ones((1, 3, 2, 2), dtype=np.uint8)
    out = Preprocessing.from_json('{"mean": [0, 1, 2], "std": [1, 2, 4]}').apply(chw)
    np.testing.assert_array_equal(out[0, :, 0, 0], np.float32([1, 0, -0.25]))
    hwc = np.ones((1, 2, 2, 3), dtype=np.uint8)
    out = Preprocessing.from_json('{"mean": [0, 1, 2], "channel_axis": 2}').apply(hwc)
    np.testing.assert_array_equal(out[0, 0, 0], np.float32([1, 0, -1]))


def test_input_is_left_alone() -> None:
    x = np.ones((1, 2), dtype=np.float32)
    out = Preprocessing.from_json('{"scale": 3}').apply(x)
    assert x[0, 0] == 1 and out[0, 0] == 3


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"shape": [1, 28, 28], "scale": 0.00392156862745098, "mean": 0.286, "std": 0.353}',
        '{"transpose": [1, 0], "pad": [[1, 0], [0, 1]], "mean": [1, 2], "channel_axis": 1}',
    ],
)
def test_reads_back_what_it_writes(text: str) -> None:
    steps = Preprocessing.from_json(text)
    assert Preprocessing.from_json(steps.to_json()) == steps


def test_every_mistake_is_named() -> None:
    with pytest.raises(SpecError) as caught:
        Preprocessing.from_json('{"sacle": 1, "std": [1, 0], "transpose": [1, 2], "shape": [0]}')
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "sacle",
        "shape",
        "std",
        "transpose",
    ]
    assert "preprocessing: sacle: unknown key" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["", "[1]", "{", '{"scale": "1"}', '{"scale": true}', '{"mean": []}', '{"pad": [[1]]}'],
)
def test_what_is_no_preprocessing_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        Preprocessing.from_json(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"shape": [3, 5]}',
        '{"transpose": [0, 1, 2]}',
        '{"pad": [[1, 1]]}',
        '{"mean": [1, 2, 3]}',
        '{"mean": [1, 2], "channel_axis": 7}',
    ],
)
def test_samples_that_do_not_fit_are_refused(text: str) -> None:
    with pytest.raises(BadInputs):
        Preprocessing.from_json(text).apply(IMAGES)


def test_text_samples_are_refused() -> None:
    with pytest.raises(BadInputs, match="numbers"):
        Preprocessing.from_json("{}").apply(np.array(["a", "b"]))
