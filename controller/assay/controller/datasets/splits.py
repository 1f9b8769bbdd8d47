"""From raw arrays to splits held by digest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from assay.controller.datasets.base import OnProgress, RawDataset
from assay.controller.datasets.npz import npz_bytes
from assay.controller.records import DatasetRecord
from assay.core.cas import ContentStore
from assay.core.model import MEDIA_NPZ

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CALIBRATION_SAMPLES = 256
SPLIT_SEED = 20


def publish(
    raw: RawDataset, blobs: ContentStore, now_ns: int, progress: OnProgress, seed: int = SPLIT_SEED
) -> DatasetRecord:
    """Stores the splits ``train``, ``calibration`` and ``test``; empty ones are left out.

    The calibration split is drawn from the training samples by ``seed`` and excluded from them, so
    that no variant is calibrated on what it is tested on or trained on.
    """
    import numpy as np

    chosen, rest = calibration_indices(len(raw.x_train), seed)
    parts: dict[str, tuple[NDArray[Any], NDArray[np.int64]]] = {
        "train": (raw.x_train[rest], raw.y_train[rest]),
        "calibration": (raw.x_train[chosen], raw.y_train[chosen]),
        "test": (raw.x_test, raw.y_test),
    }
    held = {name: part for name, part in parts.items() if len(part[1])}
    splits = {}
    for done, (name, (x, y)) in enumerate(held.items()):
        progress(raw.name, done, len(held), f"storing {name}, {len(y)} samples")
        data = npz_bytes({"x": x, "y": y.astype(np.int64)})
        splits[name] = blobs.add_bytes(data, MEDIA_NPZ)
    progress(raw.name, len(held), len(held), "stored")
    return DatasetRecord(
        name=raw.name,
        source=raw.source,
        classes=raw.classes,
        splits=splits,
        counts={name: len(y) for name, (_, y) in held.items()},
        preprocessing_json=raw.preprocessing_json,
        added_ns=now_ns,
    )


def calibration_indices(
    samples: int, seed: int, wanted: int = CALIBRATION_SAMPLES
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(calibration, the rest), each ascending; a tenth of ``samples`` where ``wanted`` is more.

    Drawn by the legacy Mersenne Twister, whose stream numpy has frozen (NEP 19).
    """
    import numpy as np

    count = min(wanted, samples // 10)
    order = np.random.RandomState(seed).permutation(samples)
    return np.sort(order[:count]), np.sort(order[count:])
