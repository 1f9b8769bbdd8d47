"""Accuracy is what the predictions say, in the dataset's order."""

from __future__ import annotations

import numpy as np
import pytest

from assay.agent.measuring.quality import Tally, class_scores


def test_accuracy_by_class_and_overall() -> None:
    tally = Tally(np.array([0, 1, 1, 2]))
    tally.add(np.array([[9, 1, 0], [0, 9, 1]]))
    tally.add(np.array([[9, 1, 0], [0, 1, 9]]))
    quality = tally.quality("digits")
    assert (quality.n, quality.top1, quality.top5) == (4, 0.75, None)
    assert quality.per_class == (1.0, 0.5, 1.0)
    assert tally.predictions == [0, 1, 0, 2]


def test_top5_needs_more_than_five_classes() -> None:
    tally = Tally(np.array([0, 5]))
    tally.add(np.array([[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6]]))
    quality = tally.quality("digits")
    assert (quality.top1, quality.top5) == (0.5, 0.5)


def test_a_label_without_samples_and_labels_beyond_the_scores() -> None:
    tally = Tally(np.array([4, 0]))
    tally.add(np.array([[1, 0, 0], [1, 0, 0]]))
    assert tally.quality("digits").per_class == (1.0, 0.0, 0.0, 0.0, 0.0)


def test_nan_scores_are_wrong_not_fatal() -> None:
    tally = Tally(np.array([1]))
    tally.add(np.full((1, 10), np.nan))
    quality = tally.quality("digits")
    assert quality.top1 == 0


@pytest.mark.parametrize(
    ("shapes", "batch", "found"),
    [
        ([(1, 10)], 1, (1, 10)),
        ([(10,)], 1, (1, 10)),
        ([(4, 10)], 4, (4, 10)),
        ([(4, 10, 1, 1)], 4, (4, 10)),
        ([(1, 5, 5), (1, 10)], 1, (1, 10)),
        ([(1, 1)], 1, None),
        ([(1, 3, 7)], 1, None),
        ([], 1, None),
    ],
)
def test_which_output_holds_the_scores(
    shapes: list[tuple[int, ...]], batch: int, found: tuple[int, int] | None
) -> None:
    scores = class_scores([np.zeros(shape) for shape in shapes], batch)
    assert (None if scores is None else scores.shape) == found
