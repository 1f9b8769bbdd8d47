"""Accuracy from predictions and labels; pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from assay.core.model import Quality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_TOP_K = 5


@dataclass(slots=True)
class Tally:
    """Collects predictions batch by batch; call :meth:`quality` at the end."""

    labels: NDArray[np.int64]
    predictions: list[int] = field(default_factory=list)
    classes: int = 0
    _top5: int = 0

    def add(self, scores: NDArray[Any]) -> None:
        """Takes the scores (batch, classes) of the next samples, in the dataset's order; a tie or
        a NaN counts for the class that comes first."""
        import numpy as np

        start = len(self.predictions)
        wanted = self.labels[start : start + len(scores)]
        self.classes = scores.shape[1]
        self.predictions.extend(np.argmax(scores, axis=1).tolist())
        if self.classes > _TOP_K:
            best = np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :_TOP_K]
            self._top5 += int(np.any(best == wanted[:, None], axis=1).sum())

    def quality(self, dataset: str) -> Quality:
        """Shares right of all samples, and by label; a label without samples counts as 0."""
        import numpy as np

        labels = self.labels[: len(self.predictions)]
        right = np.asarray(self.predictions) == labels
        classes = max(self.classes, int(labels.max()) + 1)
        counts = np.bincount(labels, minlength=classes)
        hits = np.bincount(labels[right], minlength=classes)
        return Quality(
            dataset=dataset,
            n=len(labels),
            top1=float(right.mean()),
            top5=self._top5 / len(labels) if self.classes > _TOP_K else None,
            per_class=tuple((hits / np.maximum(counts, 1)).tolist()),
        )


def class_scores(outputs: list[NDArray[Any]], batch: int) -> NDArray[Any] | None:
    """The output that holds a score per class, as (batch, classes); None if there is none.

    The first whose values divide into ``batch`` rows of two or more, with no other dimension above
    one.
    """
    for output in outputs:
        sizes = [size for size in output.shape if size != 1]
        classes = output.size // batch
        if (
            classes >= 2
            and output.size == classes * batch
            and sizes in ([batch, classes], [classes])
        ):
            return output.reshape(batch, classes)
    return None
