"""Runs a class that yields samples, in a process of its own; see ``kinds/own_class.py``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.controller.datasets.kinds.base import ALL, PARTS
from assay.controller.inspection.bounds import limit_memory
from assay.controller.own_code.load import load, source_digests, told_plainly
from assay.controller.variants.orders import DataOrder, DataReport
from assay.controller.variants.progress import Meter
from assay.core.errors import BadInputs
from assay.core.npz import write_npz
from assay.core.preprocess import Preprocessing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SAY_EVERY = 100
ARRAYS = "found.npz"


def read_data(order: DataOrder, folder: Path, meter: Meter) -> DataReport:
    """Follows the order; the arrays are written into ``folder``."""
    limit_memory()
    reference = order.reference
    meter.begin(f"importing {reference.module}", 0)
    made = load(reference)
    with told_plainly(f"{reference}()", BadInputs):
        source = made(**order.options)
    classes = _classes(order, source)
    methods = _methods(order, source)
    arrays: dict[str, NDArray[Any]] = {}
    for part, method in methods.items():
        reader = _Reader(f"{reference}.{method}()", classes, meter)
        with told_plainly(reader.where, BadInputs):
            x, y = reader.arrays(getattr(source, method)())
        arrays |= {f"x_{part}": x, f"y_{part}": y}
    write_npz(folder / ARRAYS, arrays)
    return DataReport(
        arrays=ARRAYS,
        methods=methods,
        classes=classes,
        preprocessing_json=_preprocessing(order, source),
        sources=source_digests(reference),
    )


class _Reader:
    """Takes the samples of one method in."""

    def __init__(self, where: str, classes: Sequence[str], meter: Meter) -> None:
        self.where = where
        self._classes = list(classes)
        self._meter = meter
        self._x: list[NDArray[Any]] = []
        self._y: list[int] = []

    def arrays(self, items: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """(samples, labels)."""
        import numpy as np

        if not isinstance(items, Iterable):
            raise BadInputs(f"{self.where} gave a {type(items).__name__}, not pairs to go through")
        for item in items:
            self._take(item)
            if len(self._y) % _SAY_EVERY == 1:
                self._meter.begin(f"{self.where}: {len(self._y)} samples", 1)
        if not self._x:
            raise BadInputs(f"{self.where} yields no sample")
        return np.stack(self._x), np.array(self._y, dtype=np.int64)

    def _take(self, item: Any) -> None:
        import numpy as np

        where = f"{self.where}: item {len(self._y)}"
        try:
            sample, label = item
        except (TypeError, ValueError):
            raise BadInputs(f"{where} is no pair of a sample and a label") from None
        try:
            array = np.asarray(sample)
        except ValueError as error:
            raise BadInputs(f"{where}: its rows differ in length: {error}") from None
        if array.dtype.kind not in "buif":
            raise BadInputs(f"{where}: a sample of {array.dtype}, not of numbers")
        if self._x and (array.shape, array.dtype) != (self._x[0].shape, self._x[0].dtype):
            first = self._x[0]
            raise BadInputs(
                f"{where}: {array.dtype} of shape {array.shape}, but item 0 is {first.dtype} of "
                f"shape {first.shape}"
            )
        self._y.append(self._label(where, label))
        self._x.append(array.copy())

    def _label(self, where: str, label: Any) -> int:
        import operator

        if isinstance(label, str):
            if label not in self._classes:
                raise BadInputs(
                    f"{where}: label {label!r} is none of the {len(self._classes)} classes"
                )
            return self._classes.index(label)
        try:
            return operator.index(label.item() if hasattr(label, "item") else label)
        except TypeError:
            raise BadInputs(
                f"{where}: label {label!r} is neither a whole number nor the name of a class"
            ) from None


def _methods(order: DataOrder, source: Any) -> dict[str, str]:
    """The methods that yield samples, by the part they yield."""
    found = {part: part for part in PARTS if callable(getattr(source, part, None))}
    if not found and callable(getattr(source, "samples", None)):
        found = {ALL: "samples"}
    if not found:
        raise BadInputs(
            f"{order.reference} has none of the methods samples(), train(), calibration(), test()"
        )
    return found


def _classes(order: DataOrder, source: Any) -> list[str]:
    own = getattr(source, "classes", None)
    if order.classes or own is None:
        return list(order.classes)
    if isinstance(own, str) or not isinstance(own, Iterable):
        raise BadInputs(f"{order.reference}: classes is {own!r}, not a list of names")
    return [str(name) for name in own]


def _preprocessing(order: DataOrder, source: Any) -> str:
    """Its own, checked; "" where it has none."""
    own = getattr(source, "preprocessing", None)
    if own is None:
        return ""
    with told_plainly(f"{order.reference}.preprocessing", BadInputs):
        return Preprocessing.from_json(json.dumps(own)).to_json()
