"""From raw arrays to splits held by digest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assay.controller.datasets.base import OnProgress, RawDataset
from assay.controller.records import DatasetRecord
from assay.core.cas import ContentStore
from assay.core.model import MEDIA_NPZ
from assay.core.npz import npz_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CALIBRATION_SAMPLES = 256
SPLIT_SEED = 20


@dataclass(frozen=True, slots=True)
class Splitting:
    """How samples that come undivided are divided, always by a seeded draw.

    ``test_share`` of them become the test split; of the training samples ``calibration`` (a tenth,
    where that is more) become the calibration split unless the data brings one.
    """

    seed: int = SPLIT_SEED
    test_share: float = 0.2
    calibration: int = CALIBRATION_SAMPLES


DEFAULT = Splitting()


def publish(
    raw: RawDataset,
    blobs: ContentStore,
    now_ns: int,
    progress: OnProgress,
    splitting: Splitting = DEFAULT,
) -> DatasetRecord:
    """Stores the splits ``train``, ``calibration`` and ``test``; empty ones are left out.

    A calibration split that the data does not bring is drawn from the training samples and excluded
    from them, so that no variant is calibrated on what it is tested on or trained on.
    """
    import numpy as np

    held = {name: part for name, part in _parts(raw, splitting).items() if len(part[1])}
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


def divide(samples: int, splitting: Splitting) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(train, test), each ascending; one test sample at least."""
    import numpy as np

    order = np.random.RandomState(splitting.seed).permutation(samples)
    cut = max(1, round(samples * splitting.test_share))
    return np.sort(order[cut:]), np.sort(order[:cut])


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


def _parts(
    raw: RawDataset, splitting: Splitting
) -> dict[str, tuple[NDArray[Any], NDArray[np.int64]]]:
    test = (raw.x_test, raw.y_test)
    if raw.x_calibration is not None and raw.y_calibration is not None:
        calibration = (raw.x_calibration, raw.y_calibration)
        return {"train": (raw.x_train, raw.y_train), "calibration": calibration, "test": test}
    chosen, rest = calibration_indices(len(raw.x_train), splitting.seed, splitting.calibration)
    return {
        "train": (raw.x_train[rest], raw.y_train[rest]),
        "calibration": (raw.x_train[chosen], raw.y_train[chosen]),
        "test": test,
    }
