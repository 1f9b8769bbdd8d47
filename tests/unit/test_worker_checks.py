"""Outputs are compared as real values, sample by sample, and nothing that is no number passes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from assay.agent.runtimes.base import Bound
from assay.agent.worker import checks
from assay.agent.worker.checks import (
    check_golden,
    evaluate,
    largest_error,
    nonfinite,
)
from assay.agent.worker.feeds import Dataset
from assay.core.errors import BadInputs
from assay.core.model import ArtifactRef, GoldenSpec
from assay.core.preprocess import Preprocessing
from assay.core.tensors import TensorSpec, real_values

SPEC = GoldenSpec(ArtifactRef("sha256:" + "0" * 64, 1, "application/x-npz"), 1e-3, 1e-4)


class Doubling:
    """A model that returns twice its input, as its output's type."""

    runtime_version, precision = "1", "float32"

    def __init__(self, batch: int | None = None, output: TensorSpec | None = None) -> None:
        self.inputs = (TensorSpec("x", "float32", (batch, 4)),)
        self.outputs = (output or TensorSpec("y", "float32", (batch, 4)),)
        self.batches: list[int] = []

    def run(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        self.batches.append(len(feed["x"]))
        spec = self.outputs[0]
        real = feed["x"] * 2
        if spec.scale:
            return [(np.rint(real / spec.scale) + spec.zero_point).astype(spec.dtype)]
        return [real]

    def bind(self, feeds: Sequence[Any]) -> Bound:
        raise NotImplementedError

    def placement(self) -> tuple[str, ...]:
        return ()

    def fallback(self) -> str:
        return ""

    def close(self) -> None:
        pass


def arrays(n: int, factor: float = 2.0) -> dict[str, np.ndarray]:
    x = np.arange(n * 4, dtype=np.float32).reshape(n, 4) / 10
    return {"x": x, "output_0": x * np.float32(factor), "y": np.full(n, 3)}


def golden(model: Doubling, given: dict[str, np.ndarray]) -> Dataset:
    return Dataset(given, Preprocessing(), model.inputs)


def test_equal_outputs_are_within_tolerance() -> None:
    model, given = Doubling(), arrays(5)
    found = check_golden(model, golden(model, given), given, SPEC)
    assert (found.n, found.max_abs_error, found.within_tolerance) == (5, 0.0, True)


def test_one_wrong_sample_of_many_is_found() -> None:
    model, given = Doubling(), arrays(5)
    given["output_0"][3, 2] += 0.5
    found = check_golden(model, golden(model, given), given, SPEC)
    assert not found.within_tolerance and found.max_abs_error == pytest.approx(0.5)


def test_a_fixed_batch_is_filled_up_and_the_filling_not_compared() -> None:
    model, given = Doubling(batch=4), arrays(6)
    found = check_golden(model, golden(model, given), given, SPEC)
    assert found.within_tolerance and found.n == 6 and model.batches == [4, 4]


def test_quantised_outputs_are_compared_as_real_values() -> None:
    output = TensorSpec("y", "int8", (None, 4), scale=0.1, zero_point=-100)
    model, given = Doubling(output=output), arrays(3)
    found = check_golden(model, golden(model, given), given, GoldenSpec(SPEC.artifact, 0.0, 0.06))
    assert found.within_tolerance and 0 <= found.max_abs_error < 0.06
    stored = {
        **given,
        "output_0": np.concatenate([model.run({"x": r[None]})[0] for r in given["x"]]),
    }
    assert check_golden(model, golden(model, stored), stored, SPEC).max_abs_error == 0


def test_a_golden_file_without_its_outputs_is_named() -> None:
    model, given = Doubling(), arrays(3)
    del given["output_0"]
    with pytest.raises(BadInputs, match="no output_0"):
        check_golden(model, golden(model, given), given, SPEC)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ([math.nan], [1.0]),
        ([1.0], [math.nan]),
        ([math.inf], [1.0]),
        ([1.0], [math.inf]),
        ([1.0, 2.0], [1.0]),
    ],
)
def test_what_is_no_number_is_infinitely_far_off(found: list[float], wanted: list[float]) -> None:
    error, close = largest_error([np.array(found)], [np.array(wanted)], 0.1, 0.1)
    assert error == math.inf and not close


def test_equal_infinities_are_equal() -> None:
    assert largest_error([np.array([math.inf])], [np.array([math.inf])], 0, 0) == (0.0, True)


def test_a_missing_output_is_no_match() -> None:
    assert largest_error([np.zeros(1)], [np.zeros(1), np.zeros(1)], 0, 0)[1] is False


def test_outputs_that_are_not_finite_are_counted() -> None:
    specs = [TensorSpec("a", "float32", (3,)), TensorSpec("b", "int64", (1,))]
    outputs = [np.array([1, math.nan, -math.inf]), np.array([7])]
    assert nonfinite(outputs, specs) == "a: 2 of 3 values"
    assert nonfinite([np.zeros(3), np.array([7])], specs) == ""


def test_only_quantised_outputs_are_made_real() -> None:
    specs = [TensorSpec("a", "int8", (1,), scale=0.5, zero_point=2), TensorSpec("b", "int64", (1,))]
    real = real_values([np.array([4], dtype=np.int8), np.array([9])], specs)
    assert real[0].tolist() == [1.0] and real[1].dtype == np.int64


def test_the_whole_dataset_is_evaluated_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_PROGRESS_EVERY_S", 0.0)
    model, given, told = Doubling(batch=4), arrays(6), []
    found = evaluate(model, golden(model, given), "digits", told.append)
    assert found is not None
    quality, predictions = found
    assert (quality.n, quality.top1) == (6, 1.0) and predictions.tolist() == [3] * 6
    assert told[0] == "evaluating 4/6"


def test_no_labels_no_accuracy() -> None:
    model, given = Doubling(), arrays(3)
    del given["y"]
    assert evaluate(model, golden(model, given), "digits", lambda state: None) is None


def test_nan_and_infinity_equal_themselves_at_the_same_place_only() -> None:
    golden = np.array([math.nan, math.inf, 1.0])
    assert largest_error([golden], [golden.copy()], 0, 0) == (0.0, True)
    error, close = largest_error([np.array([math.nan, -math.inf, 1.0])], [golden], 0.1, 0.1)
    assert error == math.inf and not close


def test_whole_numbers_and_text_are_held_to_be_equal() -> None:
    big = np.array([[2**60]])
    assert largest_error([big[0]], [big], 0, 0) == (0.0, True)
    assert not largest_error([big + 1], [big], 0, 0)[1]
    words = np.array(["a", "b"])
    assert largest_error([words.astype(object)], [words], 0, 0) == (0.0, True)
    assert largest_error([words[::-1]], [words], 9, 9) == (math.inf, False)


def test_each_output_has_its_own_tolerance_where_the_file_says_so() -> None:
    model, given = Doubling(), arrays(3)
    given["output_0"] += np.float32(0.5)
    for atol, fits in ((0.4, False), (0.6, True)):
        given["tolerances"] = np.array([[0.0, atol]])
        found = check_golden(model, golden(model, given), given, SPEC)
        assert found.within_tolerance is fits
    given["tolerances"] = np.zeros((2, 2))
    with pytest.raises(BadInputs, match="tolerances"):
        check_golden(model, golden(model, given), given, SPEC)
