"""Arrays that are there already: IDX files and .npz."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.controller.datasets.base import OnProgress
from assay.controller.datasets.idx import read_idx
from assay.controller.datasets.kinds.base import ALL, PARTS, Found, Kind, Part, dataset_kind
from assay.controller.datasets.npz import read_npz
from assay.core.errors import BadInputs, UsageError
from assay.core.preprocess import Preprocessing

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NOT_IDX = (".npz", ".csv", ".tsv")


@dataset_kind("npz", takes="one .npz of x and y, or of x_train, y_train, x_test, y_test")
class Npz(Kind):
    """``x_calibration`` and ``y_calibration`` may be there beside train and test."""

    @classmethod
    def claims(cls, what: Sequence[str]) -> bool:
        """One file of that suffix."""
        return len(what) == 1 and Path(what[0]).suffix.lower() == ".npz"

    def read(self, what: Sequence[str], classes: Sequence[str], progress: OnProgress) -> Found:
        """Reads it."""
        if len(what) != 1:
            raise UsageError(f"{len(what)} files: kind npz takes {self.takes}")
        path = Path(what[0])
        arrays = read_npz(path)
        pairs = {
            part: (arrays[f"x_{part}"], arrays[f"y_{part}"])
            for part in PARTS
            if f"x_{part}" in arrays and f"y_{part}" in arrays
        }
        if not pairs and "x" in arrays and "y" in arrays:
            pairs = {ALL: (arrays["x"], arrays["y"])}
        if not pairs:
            raise BadInputs(
                f"{path}: holds {', '.join(sorted(arrays)) or 'nothing'}; needed are x and y, or "
                "x_train, y_train, x_test and y_test"
            )
        return _found(str(path), {part: (str(path), x, y) for part, (x, y) in pairs.items()})


@dataset_kind("idx", takes="two IDX files, images and labels, or four, train then test")
class Idx(Kind):
    """Gzipped or not."""

    @classmethod
    def claims(cls, what: Sequence[str]) -> bool:
        """Two or four files of no other suffix."""
        suffixes = [Path(one).suffix.lower() for one in what]
        return len(what) in (2, 4) and not any(suffix in _NOT_IDX for suffix in suffixes)

    def read(self, what: Sequence[str], classes: Sequence[str], progress: OnProgress) -> Found:
        """Reads them."""
        if len(what) not in (2, 4):
            raise UsageError(f"{len(what)} files: kind idx takes {self.takes}")
        names = [ALL] if len(what) == 2 else ["train", "test"]
        arrays = [read_idx(Path(path)) for path in what]
        pairs = {
            name: (what[2 * i], arrays[2 * i], arrays[2 * i + 1]) for i, name in enumerate(names)
        }
        return _found(", ".join(what), pairs)


def default_preprocessing(x: NDArray[Any]) -> Preprocessing:
    """Bytes are scaled to 0..1; grey images (N, H, W) get a channel in front."""
    return Preprocessing(
        shape=(1, *x.shape[1:]) if x.ndim == 3 else None,
        scale=1 / 255 if x.dtype.name == "uint8" else None,
    )


def _found(source: str, pairs: Mapping[str, tuple[str, NDArray[Any], NDArray[Any]]]) -> Found:
    parts = {name: _part(path, x, y) for name, (path, x, y) in pairs.items()}
    shapes = {name: part.x.shape[1:] for name, part in parts.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise BadInputs(f"{source}: samples differ in shape: {listed}")
    some = next(iter(parts.values())).x
    return Found(source, parts, (), default_preprocessing(some))


def _part(path: str, x: NDArray[Any], y: NDArray[Any]) -> Part:
    import numpy as np

    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if x.ndim < 1 or y.ndim != 1 or len(x) != len(y):
        raise BadInputs(f"{path}: samples of shape {x.shape} do not go with labels {y.shape}")
    if y.dtype.kind not in "ui":
        raise BadInputs(f"{path}: labels are {y.dtype} {y.shape}: whole numbers (N,) are needed")
    if x.dtype.kind not in "buif":
        raise BadInputs(f"{path}: samples are {x.dtype}: numbers are needed")
    return Part(x, y.astype(np.int64), _row_of(path))


def _row_of(path: str) -> Callable[[int], str]:
    return lambda row: f"{path}: row {row}"
