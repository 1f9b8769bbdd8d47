"""What every source of data yields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assay.core.errors import BadInputs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

OnProgress = Callable[[str, int, int, str], None]
"""Called with (name of the work, done, total, note); ``total`` is 0 where it is not known."""


def silent(_name: str, _done: int, _total: int, _note: str) -> None:
    """An :data:`OnProgress` that says nothing."""


@dataclass(frozen=True, slots=True)
class RawDataset:
    """Samples as they were found: ``x_*`` (N, ...) and labels ``y_*`` (N,), int64 from 0 up.

    Train arrays may be empty: such a dataset can measure, not train. Without calibration arrays
    the calibration split is drawn from the training samples.
    """

    name: str
    source: str
    classes: tuple[str, ...]
    preprocessing_json: str
    x_train: NDArray[Any]
    y_train: NDArray[np.int64]
    x_test: NDArray[Any]
    y_test: NDArray[np.int64]
    x_calibration: NDArray[Any] | None = None
    y_calibration: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        for part, x, y in (
            ("train", self.x_train, self.y_train),
            ("calibration", self.x_calibration, self.y_calibration),
            ("test", self.x_test, self.y_test),
        ):
            if x is None or y is None:
                continue
            if y.ndim != 1 or len(x) != len(y):
                raise BadInputs(
                    f"{self.source}: {part}: {len(x)} samples but labels of shape {y.shape}"
                )
            if len(y) and (y.min() < 0 or y.max() >= len(self.classes)):
                raise BadInputs(
                    f"{self.source}: {part}: labels run from {y.min()} to {y.max()}, "
                    f"but there are {len(self.classes)} classes"
                )
        if not len(self.x_test):
            raise BadInputs(f"{self.source}: no test samples")
