"""Datasets from files the user has: an .npz, or IDX files of images and labels."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.controller.datasets.base import OnProgress, RawDataset, silent
from assay.controller.datasets.idx import read_idx
from assay.controller.datasets.npz import read_npz
from assay.controller.datasets.splits import SPLIT_SEED, publish
from assay.controller.records import DatasetRecord
from assay.controller.store.base import Store
from assay.core.cas import ContentStore
from assay.core.errors import BadInputs, UsageError
from assay.core.preprocess import Preprocessing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SPLIT_KEYS = ("x_train", "y_train", "x_test", "y_test")
_TEST_SHARE = 0.2


def from_files(
    paths: Sequence[Path],
    name: str,
    classes: Sequence[str] = (),
    preprocessing_json: str | None = None,
) -> RawDataset:
    """One .npz; or two IDX files, images and labels; or four, train then test.

    An .npz holds ``x_train``, ``y_train``, ``x_test``, ``y_test``, or ``x`` and ``y``. Samples that
    come without a split are divided by a fixed seed, a fifth for testing. Classes are ``0``, ``1``
    and so on unless named; preprocessing defaults to :func:`default_preprocessing`.
    """
    source = ", ".join(str(path) for path in paths)
    x_train, y_train, x_test, y_test = _arrays(paths, source)
    labels = [_labels(y, source) for y in (y_train, y_test)]
    highest = max((int(y.max()) for y in labels if len(y)), default=-1)
    preprocessing = (
        Preprocessing.from_json(preprocessing_json)
        if preprocessing_json is not None
        else default_preprocessing(x_test)
    )
    preprocessing.apply(x_test[:1])
    return RawDataset(
        name=name,
        source=source,
        classes=tuple(classes) or tuple(str(i) for i in range(highest + 1)),
        preprocessing_json=preprocessing.to_json(),
        x_train=x_train,
        y_train=labels[0],
        x_test=x_test,
        y_test=labels[1],
    )


def add_files(
    paths: Sequence[Path],
    name: str,
    classes: Sequence[str],
    preprocessing_json: str | None,
    store: Store,
    blobs: ContentStore,
    progress: OnProgress = silent,
) -> DatasetRecord:
    """Reads the files as :func:`from_files` does and adds them to the store under ``name``.

    :class:`AlreadyExists` where the name belongs to other content.
    """
    raw = from_files(paths, name, classes, preprocessing_json)
    record = publish(raw, blobs, time.time_ns(), progress)
    store.add_dataset(record)
    return store.dataset(name)


def default_preprocessing(x: NDArray[Any]) -> Preprocessing:
    """Bytes are scaled to 0..1; grey images (N, H, W) get a channel in front."""
    return Preprocessing(
        shape=(1, *x.shape[1:]) if x.ndim == 3 else None,
        scale=1 / 255 if x.dtype.name == "uint8" else None,
    )


def _arrays(paths: Sequence[Path], source: str) -> tuple[NDArray[Any], ...]:
    if len(paths) == 1:
        return _from_npz(paths[0])
    if len(paths) == 2:
        return _divide(read_idx(paths[0]), read_idx(paths[1]), source)
    if len(paths) == 4:
        return tuple(read_idx(path) for path in paths)
    raise UsageError(
        f"{len(paths)} files: give one .npz, two IDX files (images, labels) or four "
        "(train images, train labels, test images, test labels)"
    )


def _from_npz(path: Path) -> tuple[NDArray[Any], ...]:
    arrays = read_npz(path)
    if all(key in arrays for key in _SPLIT_KEYS):
        return tuple(arrays[key] for key in _SPLIT_KEYS)
    if "x" in arrays and "y" in arrays:
        return _divide(arrays["x"], arrays["y"], str(path))
    raise BadInputs(
        f"{path}: holds {', '.join(sorted(arrays)) or 'nothing'}; needed are x and y, or "
        + ", ".join(_SPLIT_KEYS)
    )


def _divide(x: NDArray[Any], y: NDArray[Any], source: str) -> tuple[NDArray[Any], ...]:
    import numpy as np

    if x.ndim < 1 or y.ndim != 1 or len(x) != len(y):
        raise BadInputs(f"{source}: samples of shape {x.shape} do not go with labels {y.shape}")
    order = np.random.RandomState(SPLIT_SEED).permutation(len(x))
    cut = max(1, round(len(x) * _TEST_SHARE))
    test, train = np.sort(order[:cut]), np.sort(order[cut:])
    return x[train], y[train], x[test], y[test]


def _labels(y: NDArray[Any], source: str) -> NDArray[np.int64]:
    import numpy as np

    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or y.dtype.kind not in "ui":
        raise BadInputs(f"{source}: labels are {y.dtype} {y.shape}: whole numbers (N,) are needed")
    return y.astype(np.int64)
