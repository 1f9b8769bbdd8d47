"""Preprocessing: from stored samples to model inputs."""

from __future__ import annotations

import numpy as np
import pytest

from assay.core.errors import BadInputs, SpecError
from assay.core.log_mel import LogMel
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
        '{"resize": [null, 3], "crop": [2, null]}',
        '{"log_mel": {"rate_hz": 8, "window": 4, "hop": 2, "bands": 2, "low_hz": 0, "high_hz": 4}}',
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
    [
        *("", "[1]", "{", '{"scale": "1"}', '{"scale": true}', '{"mean": []}', '{"pad": [[1]]}'),
        *('{"resize": [0]}', '{"crop": 3}', '{"log_mel": 4}', '{"log_mel": {"window": 4}}'),
        '{"log_mel": {"rate_hz": 8, "window": 4, "hop": 2, "bands": 2, "low_hz": 0, "high_hz": 5}}',
        '{"log_mel": {"size": 2}}',
    ],
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
        '{"resize": [4]}',
        '{"crop": [1, 5]}',
        '{"log_mel": {"rate_hz": 8, "window": 5, "hop": 2, "bands": 2, "low_hz": 0, "high_hz": 4}}',
    ],
)
def test_samples_that_do_not_fit_are_refused(text: str) -> None:
    with pytest.raises(BadInputs):
        Preprocessing.from_json(text).apply(IMAGES)


def test_text_samples_are_refused() -> None:
    with pytest.raises(BadInputs, match="numbers"):
        Preprocessing.from_json("{}").apply(np.array(["a", "b"]))


@pytest.mark.parametrize(("height", "width"), [(3, 9), (17, 2), (7, 7), (1, 1), (40, 40)])
def test_resize_agrees_with_pillows_bilinear(height: int, width: int) -> None:
    image = pytest.importorskip("PIL.Image")
    x = np.random.RandomState(3).rand(2, 7, 11).astype(np.float32)
    out = Preprocessing(resize=(height, width)).apply(x)
    for found, sample in zip(out, x, strict=True):
        wanted = image.fromarray(sample).resize((width, height), image.Resampling.BILINEAR)
        np.testing.assert_allclose(found, np.asarray(wanted), atol=1e-5)


def test_crop_keeps_the_middle_and_null_leaves_an_axis() -> None:
    x = np.arange(2 * 5 * 4, dtype=np.uint8).reshape(2, 5, 4)
    out = Preprocessing.from_json('{"crop": [2, null]}').apply(x)
    np.testing.assert_array_equal(out, x[:, 1:3])


def test_log_mel_hears_a_tone_in_its_band() -> None:
    mel = LogMel(rate_hz=8000, window=256, hop=128, bands=20, low_hz=0, high_hz=4000)
    time_s = np.arange(1024) / 8000
    tones = np.stack([np.sin(2 * np.pi * hz * time_s) for hz in (300, 2500)]).astype(np.float32)
    out = Preprocessing(shape=(1, 1024), log_mel=mel).apply(tones)
    assert out.shape == (2, 1, 7, 20) and out.dtype == np.float32
    low, high = out[:, 0].mean(axis=1).argmax(axis=1)
    assert (low, high) == (3, 16)
    silence = mel.apply(np.zeros((1, 256), np.float32))
    np.testing.assert_array_equal(silence, np.full((1, 1, 20), np.log(1e-6), np.float32))


def test_log_mel_is_the_sum_of_its_definition() -> None:
    """Against a transform written out, one window, band by band."""
    mel = LogMel(rate_hz=16, window=16, hop=16, bands=3, low_hz=1, high_hz=8, floor=1e-9)
    x = np.random.RandomState(1).randn(1, 16).astype(np.float32)
    frames = np.arange(16)
    windowed = x[0] * (0.5 - 0.5 * np.cos(2 * np.pi * frames / 16))
    power = [abs(sum(windowed * np.exp(-2j * np.pi * k * frames / 16))) ** 2 for k in range(9)]
    edges = 700 * (
        10 ** (np.linspace(*(2595 * np.log10(1 + f / 700) for f in (1, 8)), 5) / 2595) - 1
    )
    for band in range(3):
        share = np.interp(np.arange(9), edges[band : band + 3], [0, 1, 0], left=0, right=0)
        assert mel.apply(x)[0, 0, band] == pytest.approx(np.log(share @ power), abs=1e-5)
